"""Whether both sides would say the same token, and how much worse the token that was said is than the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.statistics.divergence import require_same_positions
from pytest_llmopt.statistics.intervals import cluster_proportion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import BoolArray, FloatArray, IntArray, TopLogprobs
    from pytest_llmopt.core.verdict import Estimate


def top1_agreement(reference: TopLogprobs, candidate: TopLogprobs) -> BoolArray:
    """Whether the most probable token is the same on both sides: `[tokens]`.

    Where a side holds several tokens at exactly its highest log-probability, any of them counts, since which one comes
    first is an accident of the sort. False where a side has no usable distribution (NaN never agrees).

    Raises:
        PositionMismatchError: the two sides scored different tokens.
    """
    require_same_positions(reference, candidate)
    agrees = _ties_for_best(reference, candidate.top_ids[:, :1]) | _ties_for_best(candidate, reference.top_ids[:, :1])
    return agrees & reference.is_finite & candidate.is_finite


def top1_lead(logprobs: TopLogprobs) -> FloatArray:
    """Log-probability of the best token minus that of the second best, in nats: `[tokens]`, never negative.

    Where only one token is known, a lower bound: the second best is taken to hold all of the tail.
    """
    top = logprobs.top_logprobs.astype(np.float64)
    if logprobs.k > 1:
        with np.errstate(invalid="ignore"):
            return top[:, 0] - top[:, 1]
    with np.errstate(divide="ignore"):
        return np.maximum(top[:, 0] - np.log(logprobs.tail_mass), 0.0)


def flip_rate(
    reference: Sequence[TopLogprobs],
    candidate: Sequence[TopLogprobs],
    *,
    margin: float = 0.0,
    confidence: float = 0.95,
) -> Estimate:
    """Share of positions whose best token changes, among those where the reference leads by more than `margin` nats.

    One element per prompt. With the tie margin of the noise floor as `margin`, near ties, which flip under any other
    rounding, are left out of both numerator and denominator. Clustered by prompt, see `cluster_proportion`. (Flips as
    a measure that accuracy hides: Dutta et al. 2024, "Accuracy is not all you need".)

    Raises:
        EmptySampleError: no position leads by more than the margin.
        PositionMismatchError: the two sides scored different tokens.
    """
    flips = []
    for ours, theirs in zip(reference, candidate, strict=True):
        lead = top1_lead(ours)
        decided = (lead > margin) | np.isnan(lead)  # a position without a distribution counts as flipped
        flips.append(~top1_agreement(ours, theirs)[decided])
    if not any(len(prompt) for prompt in flips):
        msg = f"no position where the reference's best token leads by more than {margin} nats"
        raise EmptySampleError(msg)
    return cluster_proportion(flips, confidence)


def regret(logprobs: TopLogprobs) -> FloatArray:
    """Log p(best token) - log p(token that was there), in nats: `[tokens]`, never negative.

    Zero where the token was a best one, infinite where it was impossible, NaN where a value is NaN. Of the reference's
    log-probabilities on the candidate's greedy tokens, it is what the candidate's choice gave away.
    """
    best = logprobs.top_logprobs[:, 0].astype(np.float64)
    token = logprobs.token_logprobs.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.maximum(best, token) - token


def _ties_for_best(side: TopLogprobs, ids: IntArray) -> BoolArray:
    """Whether a token of each row `[tokens, 1]` is among the side's most probable ones: `[tokens]`."""
    return ((side.top_ids == ids) & (side.top_logprobs == side.top_logprobs[:, :1])).any(axis=1)
