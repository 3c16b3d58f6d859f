"""The verdict table at the end of a run."""

from __future__ import annotations

from collections import Counter
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_llmopt.core.text import printable
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.reporting.names import apart, short_models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.record import Counts, Record

STYLES = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.INCONCLUSIVE: "yellow",
    Status.SKIPPED: "dim",
    Status.ERROR: "bold red",
}


MEANINGS = {
    "xfailed": "xfail",
    "xpassed": "xpass",
    "caught": "caught by the test",
    "rerun": "run again",
    "failed": "test failed",
    "error": "test failed",
    "skipped": "then skipped",
}
"""What a table says behind a verdict that pytest made something else of."""


def render(records: Sequence[Record], environment: Mapping[str, object], *, width: int, color: bool) -> str:
    """The table of all verdicts, grouped by check, and a line that sums them up."""
    output = StringIO()
    console = Console(file=output, width=width, force_terminal=color, no_color=not color, highlight=False)
    models = short_models(record.model for record in records)
    console.print(_heading(records, models, environment))
    console.print()
    decided = [record for record in records if record.status is not Status.SKIPPED]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("check", no_wrap=True)
    table.add_column("variant", overflow="fold", ratio=3)
    table.add_column("model", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("evidence", overflow="fold", ratio=5)
    tests = _tests(decided)
    previous = None
    for record in sorted(decided, key=lambda record: (record.check, record.variant)):
        check = (record.check or "(none)") if record.check != previous else ""
        previous = record.check
        table.add_row(
            Text(printable(check)),
            Text(_line(record.variant + tests.get(_row(record), {}).get(record.nodeid, ""))),
            Text(_line(models[record.model])),
            _verdict(record),
            Text(_line(_evidence(record))),
        )
    if decided:
        console.print(table)
        console.print()
    skips = Counter(_line(_skip(record)) for record in records if record.status is Status.SKIPPED)
    for reason, count in skips.items():
        console.print(Text(f"skipped  {reason}" + (f" ({count} times)" if count > 1 else ""), style="dim"))
    console.print(summary(records))
    return output.getvalue()


def summary(records: Sequence[Record]) -> str:
    """How many verdicts of each kind, and the seconds they took; what pytest made something else of is told apart."""
    counts = Counter(_told(record) for record in records)
    order = [_Told(status, why) for status in STYLES for why in ("", *MEANINGS)]
    verdicts = ", ".join(f"{counts[told]} {told}" for told in order if counts[told])
    wall = sum(record.seconds for record in records)
    engine = sum(record.engine_seconds for record in records)
    verdicts = verdicts or "none"
    count = "1 record" if len(records) == 1 else f"{len(records)} records"
    return f"{count}: {verdicts} · {wall:.1f} s in checks (engines {engine:.1f} s)"


def incomplete(counts: Counts, *, finished: bool) -> str:
    """That a run did not do all that was selected; empty where it did."""
    if finished or counts.run >= counts.selected:
        return ""
    return f"INCOMPLETE: {counts.run} of {counts.selected} selected tests were run; the others have no verdict"


class _Told(NamedTuple):
    """A verdict, and what pytest made of it where that is something else."""

    status: Status
    overruled: str

    def __str__(self) -> str:
        return f"{self.status} ({MEANINGS[self.overruled]})" if self.overruled else str(self.status)


def _told(record: Record) -> _Told:
    return _Told(record.status, record.overruled if record.overruled in MEANINGS else "")


def _verdict(record: Record) -> Text:
    told = _told(record)
    bad = record.status in {Status.FAIL, Status.ERROR}
    return Text(str(told), style="dim" if bad and told.overruled else STYLES[record.status])


def _row(record: Record) -> tuple[str, ...]:
    return (record.check, record.variant, record.model, record.reference)


def _tests(records: Sequence[Record]) -> dict[tuple[str, ...], dict[str, str]]:
    """By row, where several tests have equal ones: what tells each test from the others."""
    by_row: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        by_row.setdefault(_row(record), []).append(record.nodeid)
    return {
        row: {nodeid: f" [{name}]" for nodeid, name in apart(nodeids).items()}
        for row, nodeids in by_row.items()
        if len(set(nodeids)) > 1
    }


def _evidence(record: Record) -> str:
    reason = record.reason.partition("\n")[0]
    evidence = record.evidence or (f"{record.error}: {reason}" if record.error else reason)
    return f"{evidence}; not judged: {', '.join(record.not_judged)}" if record.not_judged else evidence


def _heading(records: Sequence[Record], models: Mapping[str, str], environment: Mapping[str, object]) -> Text:
    seeds = ", ".join(map(str, sorted({record.seed for record in records})))
    hardware = ", ".join(map(str, environment.get("gpus") or [environment.get("cpu", "unknown CPU")]))  # type: ignore[call-overload]
    return Text(_line(f"llmopt · {', '.join(models.values())} · {hardware} · seed {seeds}"), style="bold")


def _skip(record: Record) -> str:
    return f"{record.variant}: {record.reason}"


def _line(text: str) -> str:
    """On one line, with nothing that a terminal would obey."""
    return printable(text.replace("\n", " ").replace("\t", " "))
