"""From which position on a candidate differs more from the reference: the mark of a cache, window or length bug."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import PositionMismatchError
from pytest_llmopt.statistics.noise import times_floor
from pytest_llmopt.statistics.shift import RESOLUTION, DriftTest, log_resolved, paired_shift, welch_shift

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import FloatArray, IntArray
    from pytest_llmopt.statistics.shift import Shift

MOST_SPLITS = 32
"""Places where a change is looked for; each costs its share of the false-alarm rate."""

FEWEST_POSITIONS, FEWEST_PROMPTS = 4, 3
"""What a split needs on either side in a prompt, and how many such prompts, to be tested."""


@dataclass(frozen=True)
class ChangePoint(DriftTest):
    """The test for a change along the position axis. `factor` is after over before, relative to the floor."""

    position: int
    """The first position after the change that fits best, on the axis of `starts`."""
    before: float
    """Times the noise floor, before it."""
    after: float
    """Times the noise floor, from it on."""


def change_point(
    candidate: Sequence[FloatArray],
    floor: Sequence[FloatArray],
    *,
    paired: bool,
    starts: Sequence[int] | None = None,
    floor_starts: Sequence[int] | None = None,
    false_alarm: float = 1e-4,
    benign_factor: float = 1.1,
) -> ChangePoint | None:
    """Whether, and from which position on, the difference grows or shrinks by more than `benign_factor`.

    At each of up to 32 evenly spread splits of the axis, every prompt gives the logarithm of its mean after over its
    mean before, and a two-sided t test compares those with the floor's (prompt by prompt when paired, else Welch's);
    the smallest p-value is multiplied by the number of splits (Bonferroni). What makes a prompt hard, and what makes
    late positions noisy for floor and candidate alike, cancels. The position reported is the least-squares step in the
    profile of all prompts, which may lie between two splits.

    Args:
        candidate: nonnegative differences (KL, or drift squared) of each prompt, `[positions]` each.
        floor: the same of the noise floor; when paired, of the same prompts and positions.
        paired: whether it is.
        starts: where on the axis each prompt's first position lies, such as the prompt's length; 0 by default.
        floor_starts: the same for an unpaired floor.
        false_alarm: of this test.
        benign_factor: the largest change that is benign, either way.

    Returns:
        None where no split leaves enough prompts with enough positions on either side.

    Raises:
        PositionMismatchError: paired, and the sides differ in prompts or positions.
    """
    if paired and [len(prompt) for prompt in candidate] != [len(prompt) for prompt in floor]:
        msg = f"paired prompts must match: candidate has {len(candidate)}, floor {len(floor)}, or their lengths differ"
        raise PositionMismatchError(msg)
    ours, theirs = _Axis.of(candidate, starts), _Axis.of(floor, starts if paired else floor_starts)
    shifts = [shift for split in ours.splits() if (shift := _shift(ours, theirs, split, paired=paired)) is not None]
    if not shifts:
        return None
    null = math.log(benign_factor)
    p_values = np.array([2 * min(shift.p_value(null), shift.mirrored.p_value(null)) for shift in shifts])
    best = int(np.argmin(p_values))  # NaN counts as the smallest
    position = _step(ours, theirs if paired else None)
    return ChangePoint(
        p_value=float(np.minimum(p_values[best] * len(shifts), 1.0)),
        false_alarm=false_alarm,
        factor=shifts[best].factor(false_alarm / 2 / len(shifts)),
        position=position,
        before=times_floor(ours.mean(before=position), theirs.mean(before=position)),
        after=times_floor(ours.mean(since=position), theirs.mean(since=position)),
    )


@dataclass(frozen=True, eq=False)
class _Axis:
    """The prompts of one side on a common axis of positions."""

    prompts: Sequence[FloatArray]
    starts: Sequence[int]
    sums: Sequence[FloatArray]
    """Of each prompt, the sum of its first 0, 1, 2, ... values."""

    @classmethod
    def of(cls, prompts: Sequence[FloatArray], starts: Sequence[int] | None) -> _Axis:
        values = [np.asarray(prompt, np.float64) for prompt in prompts]
        offsets = [0] * len(values) if starts is None else list(starts)
        if len(offsets) != len(values):
            msg = f"{len(offsets)} starts do not fit {len(values)} prompts"
            raise PositionMismatchError(msg)
        return cls(values, offsets, [np.concatenate([[0.0], np.cumsum(prompt)]) for prompt in values])

    @property
    def places(self) -> IntArray:
        return np.concatenate([start + np.arange(len(p)) for start, p in zip(self.starts, self.prompts, strict=True)])

    @property
    def values(self) -> FloatArray:
        return np.concatenate(self.prompts)

    def splits(self) -> IntArray:
        inner = np.unique(self.places)[1:]
        spread = np.linspace(0, max(len(inner) - 1, 0), min(MOST_SPLITS, len(inner)))
        return inner[spread.round().astype(int)]

    def mean(self, *, before: float = math.inf, since: float = -math.inf) -> float:
        """Over the positions in a range, or over all where there are none in it."""
        inside = (self.places < before) & (self.places >= since)
        return float(self.values[inside].mean() if inside.any() else self.values.mean())

    def contrasts(self, split: int) -> dict[int, float]:
        """Log of the mean after over the mean before, of each prompt that has enough positions on both sides."""
        found = {}
        for prompt, (start, sums) in enumerate(zip(self.starts, self.sums, strict=True)):
            before, size = split - start, len(sums) - 1
            if FEWEST_POSITIONS <= before <= size - FEWEST_POSITIONS:
                early, all_of_it = float(sums[before]), float(sums[-1])
                late = max(all_of_it - early, 0.0)  # cancels to NaN, not to zero, after an infinite value
                found[prompt] = log_resolved(late / (size - before)) - log_resolved(early / before)
        return found


def _shift(ours: _Axis, theirs: _Axis, split: int, *, paired: bool) -> Shift | None:
    mine, floor = ours.contrasts(split), theirs.contrasts(split)
    if min(len(mine), len(floor)) < FEWEST_PROMPTS:
        return None
    if paired:
        return paired_shift(np.array([mine[prompt] - floor[prompt] for prompt in mine]))
    return welch_shift(np.array(list(mine.values())), np.array(list(floor.values())))


def _step(ours: _Axis, floor: _Axis | None) -> int:
    """The place where a step fits the profile best, by least squares; where it breaks off if it holds NaN."""
    broken = ~np.isfinite(ours.values)
    if broken.any():
        return int(ours.places[broken].min())
    places, index, counts = np.unique(ours.places, return_inverse=True, return_counts=True)
    profile = np.log(np.bincount(index, ours.values) / counts + RESOLUTION)
    if floor is not None:
        profile = profile - np.log(np.bincount(index, floor.values) / counts + RESOLUTION)
    weights, sums = np.cumsum(counts), np.cumsum(counts * profile)
    left, whole = weights[:-1], weights[-1]
    between = (sums[:-1] - sums[-1] * left / whole) ** 2 / (left * (whole - left))
    return int(places[1:][between.argmax()])
