"""What one check left behind: a plain record that survives JSON, other processes and other machines."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.files import write_json
from pytest_llmopt.core.verdict import Metric, Status, Tolerance, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_llmopt.core.figures import Figures

SCHEMA = 2
EXPECTED = frozenset({"passed", "xfailed", "skipped", "rerun"})
"""Outcomes of a test, in pytest's words, that a verdict beside PASS does not fail the run by."""


WORDS = frozenset({"unit", "status"})
"""Of a metric, what is text and no number that JSON lacks."""


@dataclass(frozen=True)
class MetricRecord:
    """One metric as the report stores it; `low`, `high` are its interval, the rest is what it was judged by."""

    point: float
    low: float
    high: float
    n: int
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    """The limits; None where there is none on that side, and both where the noise floor explains whatever there is."""
    status: str | None = None
    """PASS, FAIL or INCONCLUSIVE by itself; None where it is reported and not judged."""
    confidence: float | None = None
    """Of the interval; None where it is none."""

    @classmethod
    def of(cls, metric: Metric) -> MetricRecord:
        """The record of a metric."""
        estimate, status = metric.estimate, metric.status
        limits = metric.tolerance or Tolerance()
        # NumPy's numbers are not plain, and neither is an enumeration.
        return cls(
            *(float(estimate.point), float(estimate.low), float(estimate.high), int(estimate.n), metric.unit),
            at_least=float(limits.at_least) if math.isfinite(limits.at_least) else None,
            at_most=float(limits.at_most) if math.isfinite(limits.at_most) else None,
            status=None if status is None else status.value,
            confidence=None if estimate.confidence is None else float(estimate.confidence),
        )


@dataclass(frozen=True)
class Record:
    """One verdict, or the reason why there is none."""

    nodeid: str
    check: str
    model: str
    variant: str
    status: Status
    metrics: Mapping[str, MetricRecord] = field(default_factory=dict)
    seconds: float = 0.0
    """Wall time of the check, loading included."""
    engine_seconds: float = 0.0
    """The part of it that engines spent loading, generating and scoring."""
    evidence: str = ""
    reason: str = ""
    """Why it failed, was skipped or could not be decided; empty for a PASS."""
    reference: str = ""
    seed: int = 0
    outcome: str = ""
    """What pytest says of the test, in its own words: passed, failed, error, skipped, xfailed, xpassed, rerun."""
    attempt: int = 1
    """Which run of the test it is of, where a plugin runs tests again."""
    error: str = ""
    """The type of the exception that there is no verdict for, such as `ModelError`."""
    looked_at: Mapping[str, int] = field(default_factory=dict)
    """What the verdict rests on, in counts."""
    not_judged: Mapping[str, str] = field(default_factory=dict)
    """What could not be looked at, by name, with the reason."""
    figures: Figures = field(default_factory=dict)
    """Of the candidate, beside what was judged: its bits, its group, the seconds that it took to quantize and load."""

    @property
    def overruled(self) -> str:
        """What pytest made of it, where that is not what the status says: `xfailed`, `rerun`, `caught`; else empty.

        A FAIL that its test expected (`pytest.raises`) is `caught`; a PASS of a test that failed elsewhere `failed`.
        """
        if self.status in {Status.FAIL, Status.ERROR}:
            told = "caught" if self.outcome == "passed" else self.outcome
            return told if self.outcome in EXPECTED or self.outcome == "xpassed" else ""
        if self.status is Status.PASS:
            return "" if self.outcome in {"", "passed"} else self.outcome
        return self.outcome if self.outcome in {"xfailed", "xpassed", "rerun"} else ""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Record:
        """The record that `to_json` gave."""
        metrics = {name: MetricRecord(**_numbers(metric)) for name, metric in content["metrics"].items()}
        return cls(**{**content, "status": Status(content["status"]), "metrics": metrics})

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON values. NaN and infinity, which JSON lacks, become text."""
        content = asdict(self)
        content["status"] = self.status.value  # execnet, which carries it between workers, takes plain types only
        content["metrics"] = {name: _texts(metric) for name, metric in content["metrics"].items()}
        return content

    @classmethod
    def metrics_of(cls, verdict: Verdict) -> dict[str, MetricRecord]:
        """The metrics of a verdict, by name."""
        return {name: MetricRecord.of(metric) for name, metric in verdict.metrics.items()}


def _texts(metric: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in metric.items()
    }


def _numbers(metric: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: float(value) if isinstance(value, str) and key not in WORDS else value for key, value in metric.items()
    }


@dataclass
class Counts:
    """Tests of ours: collected, left after selection, and begun."""

    collected: int = 0
    selected: int = 0
    run: int = 0


def write_report(path: Path, content: Mapping[str, object], records: Iterable[Record]) -> None:
    """Write the report in one step, so that a reader or a crash never sees half of it.

    Args:
        path: the file; its folder is made where it is missing.
        content: what stands before the records, such as `finished` and the environment.
        records: one per verdict, skip or error.

    Raises:
        OSError: the file cannot be written.
    """
    write_json(path, {"schema": SCHEMA, **content, "records": [record.to_json() for record in records]})
