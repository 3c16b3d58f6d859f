"""Evidence that top-k keeps no more than k of the tokens that equal the k-th, whichever of them it drops."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.statistics.warping import IncompleteEvidenceError, warp

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from pytest_llmopt.core.logprobs import FloatArray, TopLogprobs
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.statistics.warping import WarpedLogprobs

MOST_WAYS = 64
"""Ways to drop the surplus at a position that are bet on; where there are more nothing is bet."""
SOUND = 0.1
"""The share of each text's bet that is kept for a filter that drops none there."""


def dropped_ties(
    targets: Sequence[WarpedLogprobs],
    acted_on: Sequence[TopLogprobs],
    sampling: SamplingParams,
    given: Sequence[Hashable],
) -> FloatArray:
    """Log-wealth after each token of betting that tokens which tie with the k-th were dropped, in nats: `[tokens]`.

    Where more than k tokens are kept by the sampler's own log-probabilities, since some equal the k-th exactly, a
    filter that keeps k drops a set of that many of them: always the same one after the same text, unknown which. Given
    that set, of mass m, what is drawn has the probability p / (1 - m) outside it and 0 inside. The mean over all sets
    of the product of these ratios to p, over the tokens drawn after the same text, is a martingale, and so is the
    product over texts, since what was drawn after other texts is the past.

    Args:
        targets: the reference's warped log-probabilities, by prompt; says only which tokens were drawn.
        acted_on: what the sampler reports of the same positions, before warping.
        sampling: what it was asked for.
        given: what stands for the text before each prompt's tokens; equal for equal texts.
    """
    sets: dict[Hashable, FloatArray] = defaultdict(lambda: np.zeros(1))
    gains: list[float] = []
    for target, own, text in zip(targets, acted_on, given, strict=True):
        gains += [0.0] * len(own)
        for place, ratios in _surplus(own, sampling).items():
            before = sets[text, *target.logprobs.token_ids[:place].tolist()]
            after = before + _log_gains(ratios, int(own.token_ids[place]))
            gains[place - len(own)] = _mean(after) - _mean(before)
            sets[text, *target.logprobs.token_ids[:place].tolist()] = after
    return np.cumsum(gains)


def _surplus(own: TopLogprobs, sampling: SamplingParams) -> dict[int, list[tuple[frozenset[int], float]]]:
    """By place, the sets that may be dropped there, each with its mass."""
    if sampling.top_k <= 0:
        return {}
    try:
        law = warp(own, sampling)
    except IncompleteEvidenceError:
        return {}
    kept = law.support.sum(axis=1)
    found = {}
    for place in np.flatnonzero(kept > sampling.top_k):
        ids, p = own.top_ids[place, : kept[place]], np.exp(law.logprobs.top_logprobs[place, : kept[place]])
        tied = np.flatnonzero(p == p[-1])
        surplus = int(kept[place]) - sampling.top_k
        if math.comb(len(tied), surplus) > MOST_WAYS:
            continue
        found[int(place)] = [
            (frozenset(int(token) for token in ids[list(ways)]), float(p[list(ways)].sum()))
            for ways in itertools.combinations(tied, surplus)
        ]
    return found


def _log_gains(ways: Sequence[tuple[frozenset[int], float]], token: int) -> FloatArray:
    """Log of each set's ratio at one draw: `[sets]`."""
    return np.array([-math.inf if token in dropped else -math.log1p(-mass) for dropped, mass in ways])


def _mean(log_ratios: FloatArray) -> float:
    """Log of the wealth at one text: a share for a sound filter, the rest evenly on the sets."""
    if len(log_ratios) == 1 and log_ratios[0] == 0:
        return 0.0
    peak = max(float(log_ratios.max()), 0.0)
    mean = float(np.exp(log_ratios - peak).mean())
    return peak + math.log(SOUND * math.exp(-peak) + (1 - SOUND) * mean)
