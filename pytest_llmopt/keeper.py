"""Takes the records out of the reports of this process, or of all workers, and keeps the run's report up to date."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmopt.names import is_ours, model_of
from pytest_llmopt.options import SESSION, SETTINGS

if TYPE_CHECKING:
    from pytest_llmopt.core.record import Record
    from pytest_llmopt.outcomes import KnownTest
    from pytest_llmopt.report import Report

CARRIED = "llmopt_records"
"""The attribute of a test report that carries its records, also from a worker of pytest-xdist to the controller."""
SPENT = "llmopt_spent"
"""Where a worker of pytest-xdist says what it has spent."""
EXCHANGE = "llmopt_exchange"
"""Where the controller tells a worker a folder for what cannot be sent: what there is to run, the stack of a hang."""
TESTS = "tests.json"
CRASHES = "crashes.txt"
CRASHED = "???"
"""The phase in which pytest-xdist reports a test whose worker is gone."""
REPORT: pytest.StashKey[Report] = pytest.StashKey()
"""The report of the run that a session is a part of."""


class PartOf:
    """Makes a pytest session a part of a run that has several."""

    def __init__(self, report: Report) -> None:
        """Take the report of the run."""
        self._report = report

    def pytest_configure(self, config: pytest.Config) -> None:
        """Tell the session."""
        config.stash[REPORT] = self._report


class Keeper:
    """One per process: it writes the report, unless this is a worker of pytest-xdist or nothing is to be run."""

    def __init__(self, config: pytest.Config) -> None:
        """Start with nothing collected."""
        self._config = config
        self._exchange: str | None = getattr(config, "workerinput", {}).get(EXCHANGE)
        self._is_worker = hasattr(config, "workerinput")
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._collected = 0
        self._entries: dict[str, KnownTest] = {}
        self._attempt: dict[str, int] = {}
        self._with_record: set[str] = set()

    @property
    def report(self) -> Report:
        """That of the run, made when it is first asked for."""
        from pytest_llmopt.report import Report

        if REPORT not in self._config.stash:
            self._config.stash[REPORT] = Report(("pytest", *map(str, self._config.invocation_params.args)))
        return self._config.stash[REPORT]

    # What there is to run

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Take the place of an older report, which would speak for this run until its end."""
        settings = self._config.stash[SETTINGS]
        if REPORT in self._config.stash or "report" in settings.command_line or settings.report.exists():
            self._begin()

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Count the tests of ours, also those that are deselected."""
        self._collected += is_ours(item)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what is going to be run; a worker does so before pytest-xdist tells the controller of it."""
        if not self._collected:
            return
        from pytest_llmopt.outcomes import KnownTest

        entries = {item.nodeid: KnownTest.of(item) for item in session.items if model_of(item) is not None}
        if not self._is_worker:
            self._expect(self._collected, entries)
        elif self._exchange is not None:
            from pytest_llmopt.core.files import write_json

            told = {nodeid: dataclasses.asdict(entry) for nodeid, entry in entries.items()}
            write_json(Path(self._exchange) / TESTS, {"collected": self._collected, "tests": told}, indent=None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give every worker of pytest-xdist the folder for what cannot be sent."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="llmopt-", ignore_cleanup_errors=True)
        node.workerinput[EXCHANGE] = self._folder.name

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """Read what the workers are going to run: all of them collect the same."""
        file = Path(self._folder.name) / TESTS if self._folder is not None else Path(TESTS)
        if self._entries or not file.is_file():
            return
        from pytest_llmopt.outcomes import KnownTest

        told = json.loads(file.read_text(encoding="utf-8"))
        self._expect(told["collected"], {nodeid: KnownTest(**entry) for nodeid, entry in told["tests"].items()})

    def _expect(self, collected: int, entries: dict[str, KnownTest]) -> None:
        self._entries = entries
        self._begin()
        self.report.counts.collected += collected
        self.report.counts.selected += len(entries)
        self._write()

    def _begin(self) -> None:
        if not self._writes:
            return
        path = self._config.stash[SETTINGS].report
        try:
            self.report.begin(path)
        except OSError as error:
            msg = (
                f"the report cannot be written to {path}: {error.strerror or error}. Give a file in a folder that can "
                "be written to: --llmopt-report FILE"
            )
            raise pytest.UsageError(msg) from None

    @property
    def _writes(self) -> bool:
        option = self._config.option
        return not (self._is_worker or option.collectonly or option.setupplan)

    # What became of it

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what the report of a phase carries, with what pytest says of it."""
        entry = self._entries.get(report.nodeid)
        if self._is_worker or entry is None:
            return
        from pytest_llmopt.core.record import Record

        if report.nodeid not in self._attempt:
            self._attempt[report.nodeid] = 1
            self.report.counts.run += 1
        outcome = self._outcome(report)
        records = [Record.from_json(content) for content in getattr(report, CARRIED, [])]
        if report.when == CRASHED:
            records.append(self._crash(entry, report))
        attempt = self._attempt[report.nodeid]
        if records:
            self._with_record.add(report.nodeid)
            kept = [dataclasses.replace(record, outcome=outcome, attempt=attempt) for record in records]
            self.report.add(kept, self._running())
        elif report.when == "call" and outcome == "passed" and report.nodeid not in self._with_record:
            self.report.without_verdict.append(entry.nodeid)
        if outcome == "rerun":
            self._attempt[report.nodeid] += 1

    def _outcome(self, report: pytest.TestReport) -> str:
        """What pytest, or a plugin that runs tests again, says of a phase: passed, error, xfailed, rerun, ..."""
        told = self._config.hook.pytest_report_teststatus(report=report, config=self._config)
        category = told[0] if told else ""
        return str(category or report.outcome).removeprefix("subtests ")

    def _crash(self, entry: KnownTest, report: pytest.TestReport) -> Record:
        """The record of a test whose worker is gone; no other worker shall run it again."""
        from pytest_llmopt.outcomes import crash

        gateway = getattr(getattr(report, "node", None), "gateway", None)
        worker = "of pytest-xdist" if gateway is None else str(gateway.id)
        stack = ""
        if self._folder is not None:
            with Path(self._folder.name, CRASHES).open("a", encoding="utf-8") as file:
                file.write(f"{report.nodeid}\n")
            last_words = Path(self._folder.name, f"{worker}.stack")
            stack = last_words.read_text(encoding="utf-8") if last_words.is_file() else ""
        return crash(entry, worker, stack)

    def has_crashed(self, nodeid: str) -> bool:
        """Whether another worker of pytest-xdist is gone by this test: its schedulers hand it out again."""
        file = Path(self._exchange or "", CRASHES)
        return self._is_worker and file.is_file() and nodeid in file.read_text(encoding="utf-8").splitlines()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Keep what a worker of pytest-xdist has spent."""
        spent = getattr(node, "workeroutput", {}).get(SPENT)
        if spent is not None:
            self.report.spent.append(spent)

    def give_up(self, item: pytest.Item, stack: str) -> None:
        """End this process, which hangs in a test; its record, or what a worker can leave, is written first."""
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if capture is not None:
            capture.suspend_global_capture(in_=True)
        sys.stderr.write(f"\n{item.nodeid}: {stack}\n")
        sys.stderr.flush()
        if self._is_worker:
            if self._exchange is not None:
                Path(self._exchange, f"{self._config.workerinput['workerid']}.stack").write_text(stack, "utf-8")  # type: ignore[attr-defined]
        elif item.nodeid in self._entries:
            from pytest_llmopt.core.verdict import Status

            record = self._entries[item.nodeid].record(Status.ERROR, reason=stack, error="TestTimeoutError")
            self.report.add([dataclasses.replace(record, outcome="failed")], self._running())
        os._exit(pytest.ExitCode.TESTS_FAILED)

    # The end

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Close every engine, also after Ctrl-C; say how it ended and what this process has spent."""
        ours = self._config.stash.get(SESSION, None)
        try:
            spent = {} if ours is None else ours.close()
        except Exception as error:  # noqa: BLE001 - whatever a library raises when it is closed, the report is written
            spent = self._running()
            self._warn(f"an engine could not be closed: {type(error).__name__}: {error}. The verdicts stand")
        if self._is_worker:
            self._config.workeroutput[SPENT] = spent  # type: ignore[attr-defined]
        elif REPORT in self._config.stash:
            self.report.end(int(session.exitstatus), spent)
            if self.report.without_verdict:
                self._warn(
                    f"these tests asked for a side and asserted nothing of it, so nothing was judged: "
                    f"{', '.join(self.report.without_verdict)}. Call llmopt.assert_gate(candidate, reference, prompts) "
                    "or another assertion, or leave the fixture out"
                )
            if self.report.trouble:
                self._warn(
                    f"the report is not up to date, {self.report.path} could not be written: {self.report.trouble}. "
                    "The verdicts stand; give another place by --llmopt-report"
                )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the verdict table."""
        if REPORT in self._config.stash and self.report.is_last and self._writes:
            from pytest_llmopt.summary import write_summary

            write_summary(self.report, terminalreporter)

    def _write(self) -> None:
        self.report.write(self._running())

    def _running(self) -> dict[str, Any]:
        """What this process has spent so far; a controller spends nothing."""
        ours = self._config.stash.get(SESSION, None)
        return {} if ours is None else ours.costs()

    def _warn(self, message: str) -> None:
        """Show a warning with those of the tests. It is told, not raised: `-W error` is for what tests do."""
        from pytest_llmopt.core.errors import LlmoptWarning

        told = warnings.WarningMessage(LlmoptWarning(message), LlmoptWarning, "pytest_llmopt", 0)
        self._config.hook.pytest_warning_recorded.call_historic(
            kwargs={"warning_message": told, "when": "runtest", "nodeid": "", "location": None}
        )
