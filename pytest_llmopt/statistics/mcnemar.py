"""Whether the candidate solves fewer of the same items than the reference: the exact test on paired outcomes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.core.verdict import Estimate
from pytest_llmopt.statistics.distributions import fair_coin_p_value, normal_quantile

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import BoolArray


@dataclass(frozen=True)
class McNemar:
    """Paired outcomes of two sides on the same items."""

    p_value: float
    """Two-sided: how often two equally accurate sides would disagree this unevenly."""
    difference: Estimate
    """Candidate's accuracy minus the reference's, a fraction of all items; negative is worse."""
    lost: int
    """Items that only the reference solved."""
    won: int
    """Items that only the candidate solved."""


def mcnemar(reference_correct: BoolArray, candidate_correct: BoolArray, confidence: float = 0.95) -> McNemar:
    """Exact McNemar test and the difference in accuracy on the same items, one element per item: `[items]`.

    Given that just one side solved an item, either side did with probability one half under equal accuracy, so the
    p-value is an exact binomial one (McNemar 1947; no continuity correction is needed). The interval is Bonett and
    Price's (2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired data"):
    one item is added to each kind of disagreement, so it has a width even where the sides never disagree. Items are
    assumed independent.

    Raises:
        EmptySampleError: there is no item.
        ValueError: the two sides have different numbers of items, or an outcome is not true or false (such as NaN).
    """
    reference, candidate = _outcomes(reference_correct), _outcomes(candidate_correct)
    if reference.shape != candidate.shape or reference.ndim != 1:
        msg = f"outcomes must be paired: reference has shape {reference.shape}, candidate {candidate.shape}"
        raise ValueError(msg)
    items = len(reference)
    if items == 0:
        msg = "no scored items to compare"
        raise EmptySampleError(msg)
    lost, won = int((reference & ~candidate).sum()), int((~reference & candidate).sum())
    p_value = fair_coin_p_value(lost, lost + won)
    worse, better = (lost + 1) / (items + 2), (won + 1) / (items + 2)
    half = normal_quantile((1 + confidence) / 2) * math.sqrt(
        (worse + better - (better - worse) ** 2) / (items + 2),
    )
    center, point = better - worse, (won - lost) / items
    low, high = max(-1.0, min(center - half, point)), min(1.0, max(center + half, point))
    difference = Estimate(point, low, high, items, confidence)
    return McNemar(p_value, difference, lost, won)


def _outcomes(values: BoolArray) -> BoolArray:
    array = np.asarray(values)
    outcomes = array.astype(bool)
    if not (array == outcomes).all():
        msg = "outcomes must be true or false; score partial credit with cluster_mean instead"
        raise ValueError(msg)
    return outcomes
