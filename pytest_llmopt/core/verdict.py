"""From an estimate and a tolerance to PASS, FAIL or INCONCLUSIVE: a pure function."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Status(StrEnum):
    """How a check ended. SKIPPED and ERROR mean that there is no verdict, and why is in the record."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    SKIPPED = "SKIPPED"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Estimate:
    """A measured value with its interval and the number of independent things it rests on."""

    point: float
    low: float
    high: float
    n: int
    confidence: float | None = None
    """How often such an interval holds the true value, of the interval itself and not of a whole design; None where it
    is no interval: an exact value, or a bound that more looking only adds to."""

    @classmethod
    def exact(cls, value: float, n: int = 1) -> Estimate:
        """A value known without sampling error, such as a count or a number of bytes."""
        return cls(value, value, value, n)


@dataclass(frozen=True)
class Tolerance:
    """The closed range that an estimate must lie in."""

    at_least: float = -math.inf
    at_most: float = math.inf

    def __post_init__(self) -> None:
        """Refuse a limit that nothing can be compared with."""
        for name in ("at_least", "at_most"):
            if math.isnan(getattr(self, name)):
                msg = f"{name}=nan is no limit: no value is on either side of it; give a number"
                raise OptionError(msg)

    @property
    def limit(self) -> float:
        """The bound that a person reads: the upper one where there is one, else the lower one."""
        return self.at_most if math.isfinite(self.at_most) or math.isinf(self.at_least) else self.at_least


def judge(estimate: Estimate, tolerance: Tolerance) -> Status:
    """PASS when the whole interval is inside the range, FAIL when it is wholly outside, else INCONCLUSIVE.

    NaN never passes: an estimate with NaN in it fails. A degenerate interval is always decided.
    """
    if math.isnan(estimate.point) or math.isnan(estimate.low) or math.isnan(estimate.high):
        return Status.FAIL
    if tolerance.at_least <= estimate.low and estimate.high <= tolerance.at_most:
        return Status.PASS
    if estimate.low > tolerance.at_most or estimate.high < tolerance.at_least:
        return Status.FAIL
    return Status.INCONCLUSIVE


@dataclass(frozen=True)
class Metric:
    """A named estimate, and the tolerance that it was judged by where there is one."""

    estimate: Estimate
    tolerance: Tolerance | None = None
    unit: str = ""

    @property
    def status(self) -> Status | None:
        """The verdict on this metric alone, or None for one that is only reported."""
        return None if self.tolerance is None else judge(self.estimate, self.tolerance)


def worst(statuses: Sequence[Status]) -> Status:
    """FAIL before INCONCLUSIVE before PASS; INCONCLUSIVE when there is nothing to judge by."""
    for status in (Status.FAIL, Status.INCONCLUSIVE, Status.PASS):
        if status in statuses:
            return status
    return Status.INCONCLUSIVE


@dataclass(frozen=True)
class Verdict:
    """What a check decided, with the evidence in numbers and in words."""

    check: str
    metrics: Mapping[str, Metric]
    evidence: str
    """One line for the table."""
    diagnosis: Sequence[str] = field(default_factory=tuple)
    """Lines for the failure message: the worst place, the likely cause, what to do next."""
    looked_at: Mapping[str, int] = field(default_factory=dict)
    """What the verdict rests on, in counts: positions by path, rows together, the deepest position, entry points."""
    not_judged: Mapping[str, str] = field(default_factory=dict)
    """What could not be looked at on these engines, by name, with the reason."""

    @property
    def status(self) -> Status:
        """The worst of the judged metrics."""
        return worst([metric.status for metric in self.metrics.values() if metric.status is not None])
