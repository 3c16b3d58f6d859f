"""The report of a run: written anew after everything that changes it, so that a run that is killed leaves a valid one.

Light: it is there in runs without a test of ours, too, where it replaces the report of an earlier run.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.environment import describe_environment
from pytest_llmopt.core.files import write_text
from pytest_llmopt.core.record import Counts, write_report

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_llmopt.core.record import Record

MARKDOWN = "llmopt_report.md"
"""Beside the JSON report: the table of methods."""
COMPLETE = frozenset({0, 1, 5})
"""Exit codes of a pytest session that came to its own end: passed, failed, nothing selected."""


def _now() -> str:
    return dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds")


@dataclass(eq=False)
class Report:
    """One run: a pytest session, or several, one after another, as `llmopt gate` makes them."""

    command: tuple[str, ...]
    path: Path | None = None
    """Where it is written, from `begin` on."""
    records: list[Record] = field(default_factory=list)
    spent: list[dict[str, Any]] = field(default_factory=list)
    """What every process that has ended has spent."""
    counts: Counts = field(default_factory=Counts)
    without_verdict: list[str] = field(default_factory=list)
    """Tests that asked for a side, passed, and left no record."""
    goes_on: bool = False
    """Another session follows, and the table is left to it."""
    exit_codes: list[int] = field(default_factory=list)
    """Of the sessions that have ended."""
    trouble: str = ""
    """Why it could not be written the last time; empty where it could."""
    started: str = field(default_factory=_now)
    ended: str | None = None

    @property
    def is_last(self) -> bool:
        """Whether no session follows: none is meant to, or the last one was interrupted."""
        return not self.goes_on or not COMPLETE.issuperset(self.exit_codes)

    @property
    def finished(self) -> bool:
        """Whether every test that was selected was run, to the end of the last session."""
        ended = self.ended is not None and not self.goes_on and COMPLETE.issuperset(self.exit_codes)
        return ended and self.counts.run == self.counts.selected

    @property
    def exit_code(self) -> int | None:
        """The gravest of the sessions; None before the end. A session that selects nothing is no failure of others."""
        if self.ended is None:
            return None
        return max([code for code in self.exit_codes if code != 5] or self.exit_codes)  # noqa: PLR2004 - pytest's code

    def begin(self, path: Path) -> None:
        """Take the place of an older report, before anything is run.

        Raises:
            OSError: it cannot be written there.
        """
        if self.path is None:
            self._write(path, {})
            self.path = path
            path.with_name(MARKDOWN).unlink(missing_ok=True)

    def add(self, records: Iterable[Record], running: dict[str, Any]) -> None:
        """Keep records and write them at once.

        Args:
            records: of one phase of one test.
            running: what this process has spent so far.
        """
        self.records += records
        self.write(running)

    def end(self, exit_code: int, spent: dict[str, Any]) -> None:
        """Keep how a session ended and what it cost."""
        self.exit_codes.append(exit_code)
        self.spent.append(spent)
        self.ended = _now()
        self.write({})

    def write(self, running: dict[str, Any]) -> None:
        """Write it; where that fails, `trouble` says why, and the run goes on."""
        if self.path is None:
            return
        try:
            self._write(self.path, running)
        except OSError as error:
            self.trouble = _words(error)
        else:
            self.trouble = ""

    def environment(self) -> dict[str, object]:
        """That of this process, with the GPUs that its workers saw."""
        environment = describe_environment()
        seen = [costs["gpus"] for costs in self.spent if costs.get("gpus")]
        return environment if environment["gpus"] or not seen else environment | {"gpus": seen[0]}

    def write_methods(self) -> Path | None:
        """Write the table of methods beside the report; where it is, or None where there is none or no room for it."""
        from pytest_llmopt.reporting.methods import render_methods

        text = render_methods(self.records, self.environment())
        if not text or self.path is None:
            return None
        file = self.path.with_name(MARKDOWN)
        try:
            write_text(file, text)
        except OSError as error:
            self.trouble = _words(error)
            return None
        return file

    def _write(self, path: Path, running: dict[str, Any]) -> None:
        together = [*self.spent, running]
        costs = {name: sum(part.get(name, 0) for part in together) for name in ("loads", "variants", "engine_seconds")}
        session = {
            "command": list(self.command),
            "started": self.started,
            "ended": self.ended if self.is_last else None,
            "exit_code": self.exit_code if self.is_last else None,
            **vars(self.counts),
            "without_verdict": self.without_verdict,
            **costs,
        }
        content = {"finished": self.finished, "session": session, "environment": self.environment()}
        write_report(path, content, self.records)


def _words(error: OSError) -> str:
    return error.strerror or str(error)
