"""How many times as long the candidate takes as the reference, on a machine that others use too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.core.verdict import Estimate
from pytest_llmopt.statistics.distributions import fair_coin_quantile

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import FloatArray


def paired_ratio(candidate_seconds: FloatArray, reference_seconds: FloatArray, confidence: float = 0.95) -> Estimate:
    """Candidate's time divided by the reference's, the median over paired rounds: below 1 is faster.

    The two are timed in alternation, round by round, so that a slow phase of the machine slows both. The interval is
    the exact distribution-free one of the median (order statistics, the inverted sign test), which assumes only that
    rounds are independent. It is preferred to the Hodges-Lehmann interval, which is shorter under steady noise but
    assumes symmetric log ratios: disturbances hit the longer of two runs more often, and with spikes on one side in
    20 % of 30 rounds that interval misses the undisturbed ratio in 39 % of experiments and is three times as wide, the
    median's in 15 % (`tests/unit/statistics/test_timing.py`). Spikes on one side in half of the rounds mislead any of
    them: time longer.

    Fewer than six rounds cannot bound a median at 95 %: the interval is then (0, infinity). NaN on either side, or a
    time that is not positive, makes all three NaN.

    Raises:
        EmptySampleError: there is no round.
        ValueError: the numbers of rounds differ.
    """
    candidate, reference = np.asarray(candidate_seconds, np.float64), np.asarray(reference_seconds, np.float64)
    if candidate.shape != reference.shape or candidate.ndim != 1:
        msg = f"rounds must be paired: candidate has shape {candidate.shape}, reference {reference.shape}"
        raise ValueError(msg)
    rounds = len(candidate)
    if rounds == 0:
        msg = "no timed rounds to compare"
        raise EmptySampleError(msg)
    if not ((candidate > 0) & (reference > 0)).all():
        return Estimate.exact(math.nan, rounds)
    ratios = np.sort(np.log(candidate) - np.log(reference))
    point = float(np.exp(np.median(ratios)))
    outside = _ranks_outside(rounds, confidence)
    if outside is None:
        return Estimate(point, 0.0, math.inf, rounds, confidence)
    low, high = float(np.exp(ratios[outside])), float(np.exp(ratios[-1 - outside]))
    return Estimate(point, low, high, rounds, confidence)


def _ranks_outside(rounds: int, confidence: float) -> int | None:
    """How many order statistics to leave out at either end, or None where even the extremes do not suffice."""
    count = fair_coin_quantile((1 - confidence) / 2, rounds)
    # ppf gives the smallest k with P(X <= k) >= tail; the interval from rank k to n-k+1 misses with 2 P(X <= k - 1)
    return count - 1 if count >= 1 else None
