"""The verdict table at the end of a run."""

from __future__ import annotations

from collections import Counter
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_llmopt.core.verdict import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.record import Record

STYLES = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.INCONCLUSIVE: "yellow",
    Status.SKIPPED: "dim",
    Status.ERROR: "bold red",
}


def render(records: Sequence[Record], environment: Mapping[str, object], *, width: int, color: bool) -> str:
    """The table of all verdicts, grouped by check, and a line that sums them up."""
    output = StringIO()
    console = Console(file=output, width=width, force_terminal=color, no_color=not color, highlight=False)
    console.print(_heading(records, environment))
    console.print()
    decided = [record for record in records if record.status is not Status.SKIPPED]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("check", no_wrap=True)
    table.add_column("variant", overflow="fold", ratio=3)
    table.add_column("model", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("evidence", overflow="fold", ratio=5)
    previous = None
    for record in sorted(decided, key=lambda record: (record.check, record.variant)):
        check = record.check if record.check != previous else ""
        previous = record.check
        verdict = Text(str(record.status), style=STYLES[record.status])
        evidence = record.evidence or record.reason.partition("\n")[0]
        table.add_row(check, Text(record.variant), Text(_short(record.model)), verdict, Text(evidence))
    if decided:
        console.print(table)
        console.print()
    for reason, count in Counter(_skip(record) for record in records if record.status is Status.SKIPPED).items():
        console.print(Text(f"skipped  {reason}" + (f" ({count} times)" if count > 1 else ""), style="dim"))
    console.print(summary(records))
    return output.getvalue()


def summary(records: Sequence[Record]) -> str:
    """How many verdicts of each kind, and the seconds they took."""
    counts = Counter(record.status for record in records)
    verdicts = ", ".join(f"{counts[status]} {status}" for status in STYLES if counts[status])
    wall = sum(record.seconds for record in records)
    engine = sum(record.engine_seconds for record in records)
    verdicts = verdicts or "none"
    return f"{len(records)} records: {verdicts} · {wall:.1f} s in checks (engines {engine:.1f} s)"


def _heading(records: Sequence[Record], environment: Mapping[str, object]) -> Text:
    models = ", ".join(dict.fromkeys(_short(record.model) for record in records))
    seeds = ", ".join(map(str, sorted({record.seed for record in records})))
    hardware = ", ".join(map(str, environment.get("gpus") or [environment.get("cpu", "unknown CPU")]))  # type: ignore[call-overload]
    return Text(f"llmopt · {models} · {hardware} · seed {seeds}", style="bold")


def _skip(record: Record) -> str:
    return f"{record.variant}: {record.reason}"


def _short(model: str) -> str:
    """A hub id as it is, a local folder by its last part."""
    return model.rstrip("/").rpartition("/")[2] if model.startswith(("/", ".")) else model
