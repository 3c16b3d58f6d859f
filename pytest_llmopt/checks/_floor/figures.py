"""The figures of a noise floor, from what a reference differs from itself by under benign changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.statistics.divergence import kl_divergence, logprob_difference
from pytest_llmopt.statistics.noise import FEWEST_POSITIONS, NEAR_TIE, NoiseFloor, lead_drift, noise_floor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.logprobs import FloatArray, TopLogprobs


@dataclass(frozen=True)
class Floor:
    """How large benign differences of one reference are, in nats."""

    drift: float
    """Root mean square change of the log-probability of the token that was there."""
    root_kl: NoiseFloor
    """Of the square root of the KL divergence, whose tail is lighter than that of the drift."""
    lead: NoiseFloor
    """Of the lead of the best token over the second best: its bound is the tie margin."""
    mean_kl: float
    """Mean KL divergence under the noisiest of the changes, in nats per token."""
    changes: Mapping[str, float]
    """The benign changes that it was measured under, each with its mean KL divergence in nats per token."""
    copies: tuple[tuple[str, int], ...] = ()
    """The changes, with their seeds, that the reference can be put under to score other tokens."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Changes that could not be made, or did not prove to be benign, each with the reason."""
    contradictions: Mapping[str, float] = field(default_factory=dict)
    """Changes that must not matter and do, by more than rounding: the mean KL divergence of each, in nats per token.

    They widen nothing: a candidate that fails by no more than a small multiple of them cannot be judged.
    """


@dataclass(frozen=True, eq=False)
class ChangedReference:
    """The reference, and the reference under a benign change, at the same positions."""

    name: str
    base: Sequence[TopLogprobs]
    changed: Sequence[TopLogprobs]
    rows: tuple[int, ...]
    """Which of the floor's texts they are of; the positions are the first ones of each."""

    @cached_property
    def kl(self) -> list[FloatArray]:
        """KL(base || changed) of each text, in nats: `[tokens]`."""
        return [kl_divergence(*pair) for pair in zip(self.base, self.changed, strict=True)]

    @property
    def figure(self) -> float:
        """Mean KL divergence, in nats per token; NaN where one side is."""
        return float(np.concatenate(self.kl).mean())


def floor_of(
    changes: Sequence[ChangedReference],
    copies: Sequence[tuple[str, int]],
    left_out: Mapping[str, str],
    contradictions: Mapping[str, float],
) -> Floor:
    """The floor of changes that proved to be benign, at least one of them of every text."""
    pairs = [pair for item in changes for pair in zip(item.base, item.changed, strict=True)]
    drift = np.concatenate([logprob_difference(*pair) for pair in pairs])
    within = _near_ties(changes)
    return Floor(
        float(np.sqrt(np.mean(drift**2))),
        noise_floor([np.sqrt(values) for item in changes for values in item.kl]),
        noise_floor([lead_drift(*pair, within) for pair in pairs]),
        max(_level(item, changes[0]) for item in changes),
        {item.name: item.figure for item in changes},
        tuple(copies),
        dict(left_out),
        dict(contradictions),
    )


def _level(item: ChangedReference, whole: ChangedReference) -> float:
    """Mean KL divergence as it would be over all texts, in nats per token.

    Of some positions it says as much about these as about the change: it is taken relative to another change of all
    texts at the same positions.
    """
    others = dict(zip(whole.rows, whole.kl, strict=True))
    there = [others[row][: len(values)] for row, values in zip(item.rows, item.kl, strict=True) if row in others]
    if [len(values) for values in there] != [len(values) for values in item.kl] or not any(map(np.any, there)):
        return item.figure
    return item.figure / float(np.concatenate(there).mean()) * whole.figure


def _near_ties(changes: Sequence[ChangedReference]) -> float:
    """The lead, in nats, below which a position counts as near a tie: further where there are too few of them."""
    leads = np.sort(
        np.concatenate([base.top_logprobs[:, 0] - base.top_logprobs[:, 1] for item in changes for base in item.base])
    )
    return max(NEAR_TIE, float(leads[min(FEWEST_POSITIONS, len(leads)) - 1]))
