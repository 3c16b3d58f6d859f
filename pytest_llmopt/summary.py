"""What a run says at its end: the table of verdicts, the table of methods, where the report is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.text import encodable, printable
from pytest_llmopt.reporting.terminal import incomplete, render

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from pytest_llmopt.report import Report

LOG_WIDTH = 200
"""Columns of a log, which has no width of its own."""
LEAST_WIDTH = 80


def write_summary(report: Report, terminal: pytest.TerminalReporter) -> None:
    """Write it to pytest's terminal, in characters that the terminal has."""
    writer = terminal._tw  # noqa: SLF001 - pytest has no public name for the width, the colors and the encoding
    encoding = getattr(writer._file, "encoding", None)  # noqa: SLF001 - same
    if report.records:
        width = max(LEAST_WIDTH, writer.fullwidth) if terminal.isatty else LOG_WIDTH
        terminal.section("llmopt verdicts")
        text = render(report.records, report.environment(), width=width, color=writer.hasmarkup)
        terminal.write(encodable(text, encoding))
        methods = report.write_methods()
    told = incomplete(report.counts, finished=report.finished)
    if told and (report.records or report.counts.selected):
        terminal.write_line(encodable(told, encoding), red=True, bold=True)
    if not report.records:
        return
    terminal.write_line(encodable(f"report  {_near(report.path, terminal)}", encoding))
    if methods is not None:
        terminal.section("llmopt methods")
        terminal.write(encodable(methods.read_text(encoding="utf-8"), encoding))
        terminal.write_line(encodable(f"\nready to paste  {_near(methods, terminal)}", encoding))


def _near(path: Path | None, terminal: pytest.TerminalReporter) -> str:
    """A path as a person at this terminal types it: below the folder that pytest was started in, or absolute."""
    below = path is not None and path.is_relative_to(terminal.startpath)
    return printable(path.relative_to(terminal.startpath) if path is not None and below else path)
