"""One way by which tokens reach a model, judged by itself: above the noise floor, and above a practical limit.

To FAIL, a difference must be both. What is wrong on one way alone must not drown in what is right on the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._equivalence.observe import DECODE, clusters
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance
from pytest_llmopt.statistics.divergence import kl_divergence
from pytest_llmopt.statistics.drift import TESTS, DriftTests, drift_tests, worst_position
from pytest_llmopt.statistics.intervals import cluster_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.checks._equivalence.observation import Observation
    from pytest_llmopt.checks._floor.floor import Benign, Floor
    from pytest_llmopt.checks._limits import Limits
    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.statistics.shift import DriftTest

FEWEST_PROMPTS = 4
"""Below this no test against the noise floor: the practical limits stand alone."""


@dataclass(frozen=True)
class Beside:
    """What benign changes of the reference do at the very positions that were observed."""

    kl: Sequence[FloatArray] = ()
    """Their KL divergence, `[tokens]` for each text; empty where it cannot matter or is not known."""
    paired: bool = False
    """Whether it is good enough for a test against it, position by position."""

    def beyond(self, observed: Sequence[Observation]) -> list[FloatArray]:
        """What of the candidate's divergence they do not have: `[tokens]` for each text."""
        if not self.kl:
            return [item.kl for item in observed]
        return [item.kl - own for item, own in zip(observed, self.kl, strict=True)]

    @classmethod
    def of(
        cls,
        reference: Side,
        benign: Benign | None,
        floor: Floor | None,
        observed: Sequence[Observation],
        limits: Limits,
        false_alarm: float,
    ) -> Beside:
        """Asked of the reference only where it can decide."""
        if floor is None or benign is None:
            return cls()
        if _beyond_doubt(observed, floor, limits, false_alarm):
            return cls([np.full(len(item.kl), floor.mean_kl) for item in observed], paired=True)
        if _settled(observed, limits):
            return cls()
        return cls(_floor_kl(reference, benign, floor, observed), paired=bool(floor.copies))


@dataclass(frozen=True)
class Way:
    """One way in, judged by itself: what is wrong on one alone must not drown in what is right on the others."""

    places: Sequence[int]
    """Of what was observed."""
    tests: DriftTests | None
    metrics: Mapping[str, Metric]


def judge_way(
    name: str,
    places: Sequence[int],
    observed: Sequence[Observation],
    beside: Beside,
    floor: Floor | None,
    limits: Limits,
    false_alarm: float,
) -> Way:
    """The metrics of one way in, its suffix behind their names, with the tests that they rest on."""
    excess = beside.beyond(observed)
    chosen, beyond = [observed[place] for place in places], [excess[place] for place in places]
    tests = None
    if floor is not None and beside.paired:
        tests = _tests(chosen, [beside.kl[place] for place in places], floor, false_alarm)
    suffix = "" if name == DECODE else f".{name}"
    metrics = {
        "mean_kl": Metric(
            cluster_mean(clusters(chosen, beyond)),
            _within(limits.mean_kl, None if tests is None else tests.mean),
            "nats/token",
        ),
        "worst_kl": largest(beyond, _within(limits.worst_kl, None if tests is None else tests.worst)),
        **_change_metric(tests, beyond, chosen, limits),
    }
    return Way(places, tests, {f"{key}{suffix}": metric for key, metric in metrics.items()})


def largest(values: Sequence[FloatArray], tolerance: Tolerance) -> Metric:
    """The largest of all values, in nats."""
    return Metric(Estimate.exact(float(np.max(np.concatenate(values))), sum(map(len, values))), tolerance, "nats")


def drifts(excess: FloatArray, tests: DriftTests | None, limits: Limits) -> bool:
    """Whether a prompt is beyond a limit, on average or at one position, where the floor does not explain it."""
    on_average = (tests is None or tests.mean.alarm) and float(excess.mean()) > limits.mean_kl
    at_worst = (tests is None or tests.worst.alarm) and float(excess.max()) > limits.worst_kl
    return on_average or at_worst


def _settled(observed: Sequence[Observation], limits: Limits) -> bool:
    """Whether no position reaches even the limit of the mean: then no divergence can fail, whatever the copies say."""
    return all(float(item.kl.max()) <= limits.mean_kl for item in observed)


def _beyond_doubt(observed: Sequence[Observation], floor: Floor, limits: Limits, false_alarm: float) -> bool:
    """Whether a position exceeds both its limit and all that the floor's tail explains.

    That fails whatever copies of the reference say at the same positions, so they are not loaded for it.
    """
    share = false_alarm / TESTS
    worst = worst_position([np.sqrt(item.kl) for item in observed], floor.root_kl, false_alarm=share)
    explained = floor.root_kl.bound(sum(len(item.kl) for item in observed), share) ** 2
    return worst.alarm and not worst.value**2 - explained <= limits.worst_kl


def _within(practical: float, test: DriftTest | None) -> Tolerance:
    """A practical limit counts only for what is above the measured floor; without a floor it stands alone."""
    return Tolerance(at_most=practical if test is None or test.alarm else math.inf)


def _floor_kl(reference: Side, benign: Benign, floor: Floor, observed: Sequence[Observation]) -> list[FloatArray]:
    """KL of benign copies of the reference from it at the very same positions: `[tokens]` per prompt, the noisiest one.

    A prompt where the copies happen to agree (in 16 bits on a CPU, to the bit) is no quieter for other changes, such as
    the decode path or another kernel: every prompt is lifted to the mean of the noisiest change that was measured.
    Where the reference has no copies, that mean is all there is.
    """
    by_copy = [
        [kl_divergence(item.reference, own) for item, own in zip(observed, copy, strict=True)]
        for copy in benign.beside(reference, floor, [item.generation.continuation for item in observed])
    ]
    if not by_copy:
        return [np.full(len(item.kl), floor.mean_kl) for item in observed]
    noisiest = [max(values, key=lambda own: float(np.mean(own))) for values in zip(*by_copy, strict=True)]
    return [values + max(0.0, floor.mean_kl - float(values.mean())) for values in noisiest]


def _tests(
    observed: Sequence[Observation], floor_kl: Sequence[FloatArray], floor: Floor, false_alarm: float
) -> DriftTests | None:
    """Whether the candidate is above the noise floor; None where there are too few prompts to say."""
    if len(observed) < FEWEST_PROMPTS:
        return None
    kl, starts = [item.kl for item in observed], [item.start for item in observed]
    return drift_tests(kl, floor_kl, floor.root_kl, paired=True, starts=starts, false_alarm=false_alarm)


def _change_metric(
    tests: DriftTests | None, excess: Sequence[FloatArray], observed: Sequence[Observation], limits: Limits
) -> dict[str, Metric]:
    """The mean beyond the position from which on the candidate differs more, where there is such a position."""
    if tests is None or tests.change is None or not tests.change.alarm:
        return {}
    beyond = [kl[max(0, tests.change.position - item.start) :] for kl, item in zip(excess, observed, strict=True)]
    after = cluster_mean([kl for kl in beyond if len(kl)])
    return {"kl_after_change": Metric(after, Tolerance(at_most=limits.mean_kl), "nats/token")}
