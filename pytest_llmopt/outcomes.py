"""From what pytest says of a phase of a test to records that agree with it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmopt.core.errors import LlmoptError, RequirementMissingError, VerdictError
from pytest_llmopt.core.record import Record
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.names import model_of, nodeid_of
from pytest_llmopt.options import SETTINGS
from pytest_llmopt.reporting.failure import describe, left_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_llmopt.core.comparison import Comparison
    from pytest_llmopt.core.figures import Figures
    from pytest_llmopt.core.verdict import Verdict

COMPARISON: pytest.StashKey[Comparison] = pytest.StashKey()
"""What a test compares."""
RECORDS = pytest.StashKey[list[Record]]()
"""What its checks have left behind since the last phase."""
OPENING = pytest.StashKey[str]()
"""The side that is being opened; empty when it is."""
RECORDED = pytest.StashKey[list[BaseException]]()
"""What its checks have raised since then, each with a record."""


@dataclass(frozen=True)
class KnownTest:
    """A test of ours, as far as it is known before it runs: plain values, for another process."""

    nodeid: str
    """Without the group that pytest-xdist writes behind it."""
    model: str
    variant: str = ""
    reference: str = ""
    seed: int = 0

    @classmethod
    def of(cls, item: pytest.Item) -> KnownTest:
        """That of a test that asks for a side."""
        nodeid = nodeid_of(item)
        seed = int(item.config.stash[SETTINGS].get("seed"))
        comparison = item.stash.get(COMPARISON, None)
        if comparison is None:
            return cls(nodeid, model_of(item) or "", seed=seed)
        return cls(
            nodeid, comparison.candidate.model, comparison.candidate.label, comparison.reference.label, seed=seed
        )

    def record(self, status: Status, **found: Any) -> Record:
        """A record of this test."""
        return Record(status=status, **{"check": ""} | dataclasses.asdict(self) | found)


@dataclass(frozen=True)
class Recorder:
    """Where the checks of one test leave what they found."""

    item: pytest.Item
    figures: Callable[[], Figures]
    """Of the candidate, as they are now."""
    required: Callable[[RequirementMissingError], frozenset[str]]
    """The names in `--llmopt-require` that do not let a requirement be missing."""

    def record(self, verdict: Verdict, seconds: float, engine_seconds: float) -> None:
        """Keep a verdict."""
        self._keep(
            verdict.status,
            check=verdict.check,
            seconds=seconds,
            engine_seconds=engine_seconds,
            metrics=Record.metrics_of(verdict),
            evidence=verdict.evidence,
            reason=_why(verdict),
            looked_at=verdict.looked_at,
            not_judged=verdict.not_judged,
        )

    def refuse(self, check: str, error: Exception, seconds: float, engine_seconds: float) -> None:
        """Keep that a check has no verdict, and the exception for it."""
        named = f"{error.name}: {error}" if isinstance(error, RequirementMissingError) else str(error)
        skipped = isinstance(error, RequirementMissingError) and not self.required(error)
        self._keep(
            Status.SKIPPED if skipped else Status.ERROR,
            check=check,
            seconds=seconds,
            engine_seconds=engine_seconds,
            reason=named or repr(error),
            error="" if skipped else type(error).__name__,
        )

    def raised(self, error: Exception) -> None:
        """Remember an exception that has its record."""
        self.item.stash.setdefault(RECORDED, []).append(error)

    def _keep(self, status: Status, **found: Any) -> None:
        record = KnownTest.of(self.item).record(status, figures=self.figures(), **found)
        self.item.stash.setdefault(RECORDS, []).append(record)


def records_of(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> list[Record]:
    """The records that a phase of a test left behind, and one more where they do not say why the phase ended so.

    A test that fails after its last check has verdicts that are true and do not tell; so has one that is skipped, that
    xfails, or that passes where it must not.
    """
    records = item.stash.get(RECORDS, [])
    item.stash[RECORDS] = []
    error = None if call.excinfo is None else call.excinfo.value
    told = [id(known) for known in item.stash.get(RECORDED, [])]
    item.stash[RECORDED] = []
    if report.outcome == "passed" or any(id(link) in told for link in _chain(error)):
        return records
    skipped = isinstance(error, pytest.skip.Exception) or (error is None and report.outcome == "skipped")
    cause = next((link for link in _chain(error) if isinstance(link, LlmoptError)), error)
    return [
        *records,
        KnownTest.of(item).record(
            Status.SKIPPED if skipped else Status.ERROR,
            seconds=call.duration,
            reason=_reason(error, report),
            error="" if skipped or cause is None else type(cause).__name__,
        ),
    ]


def explain(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Let a test that fails by one of our errors show that error's own words, and no stack of this package.

    The exception itself stays what it is: `xfail(raises=...)`, `pytest.raises` and a debugger see its type.
    """
    error = None if call.excinfo is None else call.excinfo.value
    if call.excinfo is None or not report.failed or not isinstance(error, (LlmoptError, VerdictError)):
        return
    opening = item.stash.get(OPENING, "")
    lines = [f"{opening}: {error}" if opening else str(error)]
    place = next((frame for frame in reversed(call.excinfo.traceback) if frame.path == item.path), None)
    if place is not None and call.when == "call":
        lines.append(f"at {item.path.name}:{place.lineno + 1}: {str(place.statement).strip()}")
    report.longrepr = "\n".join(lines)


def crash(entry: KnownTest, worker: str, stack: str) -> Record:
    """The record of a test whose process ended: a segmentation fault, no memory left, a test that hung.

    Args:
        entry: the test.
        worker: of pytest-xdist, such as `gw0`.
        stack: what the process was last seen in; empty where it could not say.
    """
    reason = f"worker {worker} crashed in this test. Run it by itself, without -n: pytest shows where it crashes"
    return entry.record(Status.ERROR, reason=stack or reason, error="TestTimeoutError" if stack else "WorkerCrashed")


def _why(verdict: Verdict) -> str:
    """Why a verdict is not a PASS: the metrics that failed, then the diagnosis, then what was not judged."""
    if verdict.status is Status.PASS:
        return ""
    failed = [
        f"{name} {describe(metric)}"
        for name, metric in verdict.metrics.items()
        if metric.status not in {None, Status.PASS}
    ]
    return "\n".join([*failed, *verdict.diagnosis, *left_out(verdict)])


def _reason(error: BaseException | None, report: pytest.TestReport) -> str:
    """Why a phase ended as it did; never empty."""
    if error is not None:
        return str(error) or repr(error)
    # XPASS(strict), a skip by a marker: pytest's own words.
    words = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    return str(words or getattr(report, "wasxfail", "") or report.outcome)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__
