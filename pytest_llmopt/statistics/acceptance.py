"""Speculative decoding accepts a draft token as often as draft and target overlap: an identity that can be tested."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.core.verdict import Estimate
from pytest_llmopt.statistics.distributions import normal_quantile
from pytest_llmopt.statistics.divergence import require_same_positions

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import BoolArray, FloatArray, TopLogprobs


@dataclass(frozen=True)
class Acceptance:
    """How many proposals were accepted, against how many should have been."""

    observed: Estimate
    """Share of proposals that were accepted; its interval is that of the identity's own randomness."""
    expected: float
    """Mean of the sum over tokens of min(p, q)."""
    p_value: float
    """Two-sided upper bound on how often lossless verification would be this far from the expectation."""


def expected_acceptance(target: TopLogprobs, draft: TopLogprobs, *, tail: bool = True) -> FloatArray:
    """Probability that a proposal drawn from the draft is accepted, the sum over tokens of min(p, q): `[tokens]`.

    Equals 1 minus the total variation distance (Leviathan et al. 2023, "Fast inference from transformers via
    speculative decoding", theorem 3.5). Both are taken after warping. Tokens not known on both sides are one bucket, so
    with incomplete evidence it is an upper bound; without the `tail` they count as sharing nothing, which makes it a
    lower bound. NaN where a value is NaN.

    Raises:
        PositionMismatchError: the two sides scored different tokens.
    """
    require_same_positions(target, draft)
    log_p = target.top_logprobs.astype(np.float64)
    log_q = replace(draft, vocab_size=max(draft.vocab_size, target.vocab_size)).lookup(target.top_ids)
    known = ~np.isnan(log_q)
    p, q = np.exp(log_p), np.exp(np.where(known, log_q, -np.inf))
    shared = np.where(known, np.minimum(p, q), 0.0).sum(axis=1)
    rest_p = np.clip(1 - np.where(known, p, 0.0).sum(axis=1), 0.0, 1.0)
    rest_q = np.clip(1 - q.sum(axis=1), 0.0, 1.0)
    broken = np.isnan(log_p).any(axis=1) | np.isnan(draft.top_logprobs).any(axis=1)
    return np.where(broken, np.nan, shared + tail * np.minimum(rest_p, rest_q))


def acceptance_identity(expected: FloatArray, accepted: BoolArray, confidence: float = 0.95) -> Acceptance:
    """Whether proposals were accepted as often as the identity says, one element per proposal examined: `[proposals]`.

    Given the context, each proposal that verification reaches is accepted with its own `expected` probability, so the
    excess over the expectation is a sum of martingale differences of known variance, and Freedman's inequality (1975,
    Annals of Probability 3) bounds its tail: a p-value that is never too small, at any number of proposals. Proposals
    after the first rejection of a block are never examined and must be left out. NaN gives NaN.

    Raises:
        EmptySampleError: no proposal was examined.
        ValueError: the two arrays differ in length.
    """
    share, outcome = np.asarray(expected, np.float64), np.asarray(accepted, np.float64)
    if share.shape != outcome.shape:
        msg = f"{share.shape} expected probabilities do not fit {outcome.shape} outcomes"
        raise ValueError(msg)
    if share.size == 0:
        msg = "no proposal was examined"
        raise EmptySampleError(msg)
    proposals, variance = share.size, float((share * (1 - share)).sum())
    excess = abs(float((outcome - share).sum()))
    p_value = min(1.0, 2 * math.exp(-(excess**2) / (2 * (variance + excess / 3)))) if excess else 1.0
    half = normal_quantile((1 + confidence) / 2) * math.sqrt(variance) / proposals
    point = float(outcome.mean())
    observed = Estimate(point, max(0.0, point - half), min(1.0, point + half), proposals, confidence)
    return Acceptance(observed, float(share.mean()), p_value if math.isfinite(excess) else math.nan)
