"""What lives as long as a pytest session: settings, registries, the loader, the records."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_llmopt.core.context import Context
from pytest_llmopt.core.environment import describe_environment
from pytest_llmopt.core.figures import HasFigures
from pytest_llmopt.core.files import write_text
from pytest_llmopt.core.record import Record, write_report
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.requirements import Requirement
from pytest_llmopt.core.verdict import Status, Verdict
from pytest_llmopt.markers import Comparison
from pytest_llmopt.names import nodeid_of
from pytest_llmopt.options import SESSION, SETTINGS
from pytest_llmopt.reporting.failure import describe
from pytest_llmopt.runtime.guard import Guard
from pytest_llmopt.runtime.loader import Loader
from pytest_llmopt.runtime.side import Scores, Side, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.core.figures import Figures
    from pytest_llmopt.core.variant import Variant
    from pytest_llmopt.options import Settings


MARKDOWN = "llmopt_report.md"
"""Beside the JSON report: the table of methods."""
REQUIREMENTS = pytest.StashKey[tuple[Requirement, ...]]()
COMPARISON = pytest.StashKey[Comparison]()
RECORDS = pytest.StashKey[list[Record]]()


@dataclass(eq=False)
class Run:
    """A run of the gate: one pytest session after another that make one report and one table."""

    records: list[Record] = field(default_factory=list)
    """Of the sessions so far."""
    spent: list[dict[str, Any]] = field(default_factory=list)
    """What every process so far has spent."""
    goes_on: bool = False
    """Another session follows, and the table is left to it."""

    def pytest_configure(self, config: pytest.Config) -> None:
        """Tell the session that it is a part of this run."""
        config.stash[RUN] = self


RUN = pytest.StashKey[Run]()


@dataclass
class Session:
    """One per pytest process; the controller of pytest-xdist holds the records of all workers."""

    settings: Settings
    optimizations: Registry
    engines: Registry
    loader: Loader
    writes_report: bool
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    scores: Scores = field(default_factory=Scores)
    run: Run = field(default_factory=Run)
    guard: Guard = field(init=False)
    """Of the references that are open."""

    def __post_init__(self) -> None:
        """Set the guard over the loader."""
        self.guard = Guard(self.engines, self.loader.holds, self._start_anew)

    @classmethod
    def of(cls, config: pytest.Config) -> Session:
        """The session of a pytest run: the one there is, or a new one with what plugins add through our hook."""
        if SESSION in config.stash:
            return config.stash[SESSION]
        settings = config.stash[SETTINGS]
        added: dict[str, Any] = {}
        for optimizations in config.hook.pytest_llmopt_optimizations(config=config):
            added |= optimizations
        engines = Registry("engines", "engine")
        config.stash[SESSION] = cls(
            settings,
            Registry("optimizations", "optimization", added),
            engines,
            Loader(engines, settings.policy),
            writes_report=not hasattr(config, "workerinput"),
            run=config.stash.get(RUN, None) or Run(),
        )
        return config.stash[SESSION]

    def context(self, item: pytest.Item, comparison: Comparison) -> Context:
        """What the checks of a test are told, with a place for their verdicts."""
        seed = int(self.settings.get("seed"))
        both = (comparison.candidate, comparison.reference)

        def keep(check: str, status: Status, seconds: float, engine_seconds: float, **found: Any) -> None:
            item.stash.setdefault(RECORDS, []).append(
                Record(
                    nodeid=nodeid_of(item),
                    check=check,
                    model=comparison.candidate.model,
                    variant=comparison.candidate.label,
                    reference=comparison.reference.label,
                    status=status,
                    seconds=seconds,
                    engine_seconds=engine_seconds,
                    seed=seed,
                    figures=self.figures(comparison.candidate),
                    **found,
                )
            )

        def record(verdict: Verdict, seconds: float, engine_seconds: float) -> None:
            keep(
                verdict.check,
                verdict.status,
                seconds,
                engine_seconds,
                metrics=Record.metrics_of(verdict),
                evidence=verdict.evidence,
                reason=_reason(verdict),
                looked_at=verdict.looked_at,
            )

        def refuse(check: str, reason: str, seconds: float, engine_seconds: float) -> None:
            keep(check, Status.ERROR, seconds, engine_seconds, reason=reason)

        def open_(variant: Variant) -> Side:
            with self.stopwatch.running():
                engine = self.loader.get(variant, keep=both)
            return Side("reference", variant, engine, self.stopwatch, context, self.scores)

        def reopen(variant: Variant) -> Engine:
            return self.loader.reopen(variant, keep=both)

        context = Context(
            seed,
            comparison.budget,
            self.settings.get("inconclusive") == "warn",
            open_,
            Path(self.settings.get("cache")),
            record,
            reopen,
            lambda: self.guard.watching(f"after a check of {comparison.candidate.label}", both),
            refuse,
        )
        return context

    def open(self, role: Literal["candidate", "reference"], comparison: Comparison) -> Engine:
        """The engine of one side of a comparison; a reference is proven to be what it is when it is opened.

        Raises:
            LlmoptError: it cannot be loaded.
            UnsoundReferenceError: a candidate changed the reference, or there is none that is sound.
        """
        variant, keep = getattr(comparison, role), (comparison.candidate, comparison.reference)
        if role == "candidate" and comparison.candidate != comparison.reference and not self.loader.has(variant):
            with self.guard.loading(variant), self.stopwatch.running():
                return self.loader.get(variant, keep=keep)
        with self.stopwatch.running():
            engine = self.loader.get(variant, keep=keep)
            if role == "reference" and not self.guard.adopt(engine):
                engine = self.loader.get(variant, keep=keep)
                self.guard.adopt(engine)
            return engine

    def _start_anew(self, since: float) -> None:
        """Close every engine, and forget what a reference that changed has said since a moment."""
        self.loader.close()
        self.scores = Scores()
        for file in Path(self.settings.get("cache")).glob("noise-floor/*.json"):
            if file.stat().st_mtime >= since:
                file.unlink()

    def figures(self, variant: Variant) -> Figures:
        """What the options of a variant amount to, and what it took to quantize and load so far."""
        told: dict[str, float | str] = {}
        for item in variant.optimizations:
            own = item.options.figures if isinstance(item.options, HasFigures) else {}
            told |= {name: f"{told[name]}, {value}" if name in told else value for name, value in own.items()}
        return told | self.loader.costs.get(variant.digest, {})

    def keep(self, records: list[Mapping[str, Any]]) -> None:
        """Add records and write the report at once, so that an interrupted run loses nothing."""
        if records:
            self.run.records += map(Record.from_json, records)
            self._write_report()

    @property
    def records(self) -> list[Record]:
        """Of the run so far."""
        return self.run.records

    def close(self) -> dict[str, Any]:
        """Close every engine and bring the report up to date; gives what this process has spent."""
        self.loader.close()
        self._write_report()
        # Only a process that computed on them knows which GPUs there are.
        told = self._costs() | {"gpus": describe_environment()["gpus"]}
        self.run.spent.append(told)
        return told

    def _costs(self) -> dict[str, Any]:
        loads = self.loader.loads
        return {"loads": len(loads), "variants": len(set(loads)), "engine_seconds": self.stopwatch.seconds}

    def _write_report(self) -> None:
        if self.records and self.writes_report:
            together = [*self.run.spent, self._costs()]
            spent = {name: sum(costs[name] for costs in together) for name in self._costs()}
            write_report(self.settings.report, self._environment(), self.records, spent)

    def _environment(self) -> dict[str, object]:
        """That of this process, with the GPUs that its workers saw."""
        environment = describe_environment()
        seen = [costs["gpus"] for costs in self.run.spent if costs.get("gpus")]
        return environment if environment["gpus"] or not seen else environment | {"gpus": seen[0]}

    def write_methods(self) -> Path | None:
        """Write the table of methods beside the report; where it is, or None where no accuracy was judged."""
        from pytest_llmopt.reporting.methods import render_methods

        text = render_methods(self.records, self._environment())
        if not text:
            return None
        file = self.settings.report.with_name(MARKDOWN)
        write_text(file, text)
        return file

    def table(self, *, width: int, color: bool) -> str:
        """The verdict table."""
        from pytest_llmopt.reporting.terminal import render

        return render(self.records, self._environment(), width=width, color=color)


def _reason(verdict: Verdict) -> str:
    """Why a verdict is not a PASS: the metrics that failed, then the diagnosis."""
    if verdict.status is Status.PASS:
        return ""
    failed = [
        f"{name} {describe(metric)}"
        for name, metric in verdict.metrics.items()
        if metric.status not in {None, Status.PASS}
    ]
    return "\n".join([*failed, *verdict.diagnosis])


def records_of(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> list[Record]:
    """The records that a phase of a test left behind; one with the reason where it ended without a verdict."""
    records = item.stash.get(RECORDS, [])
    item.stash[RECORDS] = []
    comparison = item.stash.get(COMPARISON, None)
    if comparison is None or records or report.outcome == "passed":
        return records
    skipped = report.outcome == "skipped"
    reason = str(call.excinfo.value) if call.excinfo is not None else ""
    return [
        Record(
            nodeid=nodeid_of(item),
            check="",
            model=comparison.candidate.model,
            variant=comparison.candidate.label,
            reference=comparison.reference.label,
            status=Status.SKIPPED if skipped else Status.ERROR,
            seconds=call.duration,
            reason=reason,
            seed=int(item.config.stash[SETTINGS].get("seed")),
        )
    ]
