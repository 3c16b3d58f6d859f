"""How far a candidate's distribution is from the reference's at every position, in nats."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import PositionMismatchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.logprobs import BoolArray, FloatArray, TopLogprobs

BUCKET_RESOLUTION = 1e-6
"""The smallest mass of the rest bucket that is told from zero: what float32 probabilities leave in `1 - sum`."""

_BLOCK_ELEMENTS = 1 << 22
"""Float64 elements held per array at a time: 32 MiB, whatever the vocabulary."""


def require_same_positions(reference: TopLogprobs, candidate: TopLogprobs) -> None:
    """Refuse two sides that did not score the same tokens.

    Raises:
        PositionMismatchError: the lengths differ, or a token does; names the first one.
    """
    if len(reference) != len(candidate):
        msg = f"reference scored {len(reference)} tokens, candidate {len(candidate)}; both must score the same ones"
        raise PositionMismatchError(msg)
    differs = np.flatnonzero(reference.token_ids != candidate.token_ids)
    if differs.size:
        at = int(differs[0])
        msg = (
            f"{differs.size} of {len(reference)} positions hold different tokens, first at {at}: "
            f"reference {int(reference.token_ids[at])}, candidate {int(candidate.token_ids[at])}"
        )
        raise PositionMismatchError(msg)


def kl_divergence(reference: TopLogprobs, candidate: TopLogprobs) -> FloatArray:
    """KL(reference ‖ candidate) per position, in nats: `[tokens]`.

    Both sides are coarsened to the tokens known on both (top k and the token that was there) and one bucket for the
    rest. So the value is a lower bound on the full divergence (data processing inequality), and exact when both sides
    know the whole vocabulary. It is summed as `p (expm1(d) - d)`, d = log q - log p, which equals p log(p/q) - p + q:
    every term is nonnegative, and the rounding of a float32 normalization (sum of q off by 1e-7) contributes its
    square rather than itself. Where both sides leave less than `BUCKET_RESOLUTION` to the bucket it contributes zero.

    A token that the reference deems possible and the candidate impossible gives infinity. NaN on either side gives NaN.

    Raises:
        PositionMismatchError: the two sides scored different tokens.
    """
    require_same_positions(reference, candidate)
    vocab_size = max(reference.vocab_size, candidate.vocab_size)  # a padded output head is not another vocabulary
    reference = dataclasses.replace(reference, vocab_size=vocab_size)
    candidate = dataclasses.replace(candidate, vocab_size=vocab_size)
    values = np.empty(len(reference))
    for block in _blocks(len(reference), max(reference.k, candidate.k)):
        values[block] = _kl_of_block(reference[block], candidate[block])
    return values


def logprob_difference(reference: TopLogprobs, candidate: TopLogprobs) -> FloatArray:
    """Log-probability of the token that was there, candidate minus reference, in nats: `[tokens]`.

    Signed: negative where the candidate deems the token less likely. NaN where either side is NaN, or where both deem
    the token impossible.

    Raises:
        PositionMismatchError: the two sides scored different tokens.
    """
    require_same_positions(reference, candidate)
    with np.errstate(invalid="ignore"):
        return candidate.token_logprobs.astype(np.float64) - reference.token_logprobs.astype(np.float64)


def _blocks(length: int, width: int) -> Iterator[slice]:
    step = max(1, _BLOCK_ELEMENTS // max(width, 1))
    return (slice(start, start + step) for start in range(0, length, step))


def _kl_of_block(reference: TopLogprobs, candidate: TopLogprobs) -> FloatArray:
    broken = _has_nan(reference) | _has_nan(candidate)
    token = reference.token_ids[:, None]
    known = reference.top_ids
    log_p = reference.top_logprobs.astype(np.float64)
    log_q = candidate.lookup(known)
    log_q = np.where(known == token, candidate.token_logprobs.astype(np.float64)[:, None], log_q)
    shared = ~np.isnan(log_q)
    terms = np.where(shared, _terms(log_p, np.where(shared, log_q, 0.0)), 0.0).sum(axis=1)

    apart = ~(known == token).any(axis=1)  # the token that was there, where the reference's top k lacks it
    token_p = np.where(apart, reference.token_logprobs.astype(np.float64), -np.inf)
    token_q = np.where(apart, candidate.token_logprobs.astype(np.float64), -np.inf)
    terms += _terms(token_p, token_q)

    if not (reference.is_complete and candidate.is_complete):
        shared_p = np.where(shared, np.exp(log_p), 0.0).sum(axis=1) + np.exp(token_p)
        shared_q = np.where(shared, np.exp(log_q), 0.0).sum(axis=1) + np.exp(token_q)
        rest_p = _rest(reference, shared_p)
        rest_q = _rest(candidate, shared_q)
        terms += _terms(np.log(rest_p), np.log(rest_q))
    return np.where(broken, np.nan, terms)


def _terms(log_p: FloatArray, log_q: FloatArray) -> FloatArray:
    """P log(p/q) - p + q, elementwise and never negative; q where p is zero."""
    p, q = np.exp(log_p), np.exp(log_q)
    with np.errstate(invalid="ignore", over="ignore"):
        d = log_q - log_p
        near = np.abs(d) < 0.5  # noqa: PLR2004 - where expm1(d) - d is the accurate form
        small = np.where(near, d, 0.0)
        terms = np.where(near, p * (np.expm1(small) - small), q - p - p * d)
    return np.where(p == 0, q, np.maximum(terms, 0.0))


def _rest(side: TopLogprobs, shared_mass: FloatArray) -> FloatArray:
    """The mass outside the shared tokens, at least the resolution.

    A side's own known tokens give a second, cancellation-free lower bound when it knows the whole vocabulary. Raising
    both sides to the same resolution moves them towards each other, so the divergence stays a lower bound.
    """
    mass = (
        np.exp(side.top_logprobs.astype(np.float64)).sum(axis=1) - shared_mass if side.is_complete else 1 - shared_mass
    )
    return np.maximum(mass, BUCKET_RESOLUTION)


def _has_nan(side: TopLogprobs) -> BoolArray:
    bad: BoolArray = np.isnan(side.top_logprobs) | np.isposinf(side.top_logprobs)
    return bad.any(axis=1) | np.isnan(side.token_logprobs) | np.isposinf(side.token_logprobs)
