"""Whether a candidate differs from the reference by more than the noise floor does, and from which position on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import EmptySampleError, PositionMismatchError
from pytest_llmopt.core.verdict import Estimate
from pytest_llmopt.statistics.change_point import ChangePoint, change_point
from pytest_llmopt.statistics.noise import times_floor
from pytest_llmopt.statistics.shift import DriftTest, log_resolved, paired_shift, welch_shift

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.statistics.noise import NoiseFloor

FALSE_ALARM = 1e-4
"""Probability that a benign candidate alarms in any of the tests of one check."""

TESTS = 3
"""How many there are; each may alarm with an equal share of that probability."""

BENIGN_FACTOR = 1.1
"""How much noisier a benign change may be on average: permuted copies of a bf16 model stayed within 1.03."""


@dataclass(frozen=True)
class WorstPosition(DriftTest):
    """The test of the largest difference of all."""

    prompt: int
    """Which prompt it is in, counted from 0."""
    position: int
    """Where in that prompt, counted from 0."""
    value: float
    """The difference there, in its own unit."""


def mean_drift(
    candidate: Sequence[FloatArray],
    floor: Sequence[FloatArray],
    *,
    paired: bool,
    false_alarm: float = FALSE_ALARM,
    benign_factor: float = BENIGN_FACTOR,
) -> DriftTest:
    """Whether the mean difference per prompt is more than `benign_factor` times the floor's: sees diffuse errors.

    A one-sided t test on the logarithms of the prompts' means, prompt by prompt when paired, else Welch's. Logarithms
    since drift acts as a factor; in the simulations of `tests/unit/statistics/test_drift.py` the test keeps its rate
    with 8 to 32 prompts of heavily skewed values. Pairing on the same positions cancels what makes a prompt hard, and
    decides in 16 bits, where the floor is as large as a small bug. The prompts are assumed independent.

    Args:
        candidate: nonnegative differences (KL, or drift squared) of each prompt, `[positions]` each.
        floor: the same of the noise floor, one array per prompt; several benign changes of one prompt are averaged or
            concatenated into one array, since they are not independent of each other.
        paired: whether both hold the same prompts in the same order.
        false_alarm: of this test.
        benign_factor: the largest ratio of means that is benign.

    Raises:
        EmptySampleError: fewer than two prompts on a side, or a prompt without positions.
        PositionMismatchError: paired, and the numbers of prompts differ.
    """
    ours, theirs = _log_means(candidate, "candidate"), _log_means(floor, "floor")
    if paired and len(ours) != len(theirs):
        msg = f"paired prompts must match: candidate has {len(ours)}, floor {len(theirs)}"
        raise PositionMismatchError(msg)
    with np.errstate(invalid="ignore"):
        shift = paired_shift(ours - theirs) if paired else welch_shift(ours, theirs)
    return DriftTest(shift.p_value(math.log(benign_factor)), false_alarm, shift.factor(false_alarm))


def worst_position(
    candidate: Sequence[FloatArray],
    floor: NoiseFloor,
    *,
    false_alarm: float = FALSE_ALARM,
) -> WorstPosition:
    """Whether the largest difference anywhere exceeds what the floor's tail explains: sees triggered, local errors.

    The tail is that of `noise_floor`, with its assumptions; the factor is relative to the bound at this number of
    positions, so above 1 is an alarm. NaN counts as the worst.

    Raises:
        EmptySampleError: there is no position.
    """
    sizes = [len(prompt) for prompt in candidate]
    if not sum(sizes):
        msg = f"no positions in {len(candidate)} prompts"
        raise EmptySampleError(msg)
    pooled = np.abs(np.concatenate([np.asarray(prompt, np.float64) for prompt in candidate]))
    at = int(np.isnan(pooled).argmax()) if np.isnan(pooled).any() else int(pooled.argmax())
    starts = np.cumsum([0, *sizes])
    prompt = int(np.searchsorted(starts, at, side="right")) - 1
    value, positions = float(pooled[at]), len(pooled)
    return WorstPosition(
        p_value=floor.p_value(value, positions),
        false_alarm=false_alarm,
        factor=Estimate.exact(times_floor(value, floor.bound(positions, false_alarm)), len(sizes)),
        prompt=prompt,
        position=at - int(starts[prompt]),
        value=value,
    )


@dataclass(frozen=True)
class DriftTests:
    """The three tests of one check, which together alarm on a benign candidate with the check's probability."""

    mean: DriftTest
    worst: WorstPosition
    """Its value is the root of the KL divergence."""
    change: ChangePoint | None
    """None where the prompts are too short to have a before and an after."""

    @property
    def alarm(self) -> bool:
        """Whether any of them alarms."""
        return self.mean.alarm or self.worst.alarm or (self.change is not None and self.change.alarm)


def drift_tests(
    candidate_kl: Sequence[FloatArray],
    floor_kl: Sequence[FloatArray],
    floor_root_kl: NoiseFloor,
    *,
    paired: bool,
    starts: Sequence[int] | None = None,
    floor_starts: Sequence[int] | None = None,
    false_alarm: float = FALSE_ALARM,
    benign_factor: float = BENIGN_FACTOR,
) -> DriftTests:
    """All three tests at an equal share of `false_alarm` (Bonferroni): diffuse, worst position, change along the axis.

    An alarm says that the candidate is above the measured floor. Whether that matters is another question, which a
    practical limit on the same figures answers; a check should want both.

    Args:
        candidate_kl: KL divergence from the reference per prompt, `[positions]` each; where an engine reports only the
            emitted token, the square of its drift stands in for it here and in the floor.
        floor_kl: KL divergence of the noise floor, one array per prompt, see `mean_drift`.
        floor_root_kl: `noise_floor` of the square root of the KL divergence under each benign change. The root, since
            its tail is the lightest of what there is to look at: lighter than that of the KL divergence, and than that
            of the emitted token's drift.
        paired: whether `floor_kl` holds the same prompts and positions in the same order.
        starts: where on the position axis each prompt's first position lies; 0 by default.
        floor_starts: the same for an unpaired floor.
        false_alarm: of all three together.
        benign_factor: the largest ratio of means that is benign.

    Raises:
        EmptySampleError: fewer than two prompts on a side, or a prompt without positions.
        PositionMismatchError: paired, and the numbers of prompts differ.
    """
    share = false_alarm / TESTS
    mean = mean_drift(candidate_kl, floor_kl, paired=paired, false_alarm=share, benign_factor=benign_factor)
    worst = worst_position([np.sqrt(prompt) for prompt in candidate_kl], floor_root_kl, false_alarm=share)
    change = change_point(
        candidate_kl,
        floor_kl,
        paired=paired,
        starts=starts,
        floor_starts=floor_starts,
        false_alarm=share,
        benign_factor=benign_factor,
    )
    return DriftTests(mean, worst, change)


def _log_means(prompts: Sequence[FloatArray], side: str) -> FloatArray:
    if len(prompts) < 2 or not all(len(prompt) for prompt in prompts):  # noqa: PLR2004 - a spread needs two
        msg = f"{side} needs at least two prompts, each with positions; got sizes {[len(prompt) for prompt in prompts]}"
        raise EmptySampleError(msg)
    return np.array([log_resolved(float(np.asarray(prompt, np.float64).mean())) for prompt in prompts])
