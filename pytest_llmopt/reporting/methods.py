"""The table that the field publishes: a row for each method whose accuracy was judged, in Markdown, ready to paste."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pytest_llmopt.core.requirements import format_bytes
from pytest_llmopt.core.text import brief, printable
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.reporting.names import short_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_llmopt.core.record import Record

MISSING = "-"
LEADING = 2
"""Columns of words, set to the left: the method and its model."""
WORST_FIRST = (Status.ERROR, Status.FAIL, Status.INCONCLUSIVE, Status.PASS)
JUDGED = frozenset({Status.PASS, Status.FAIL, Status.INCONCLUSIVE})
FORGIVEN = ("xfailed", "caught", "rerun")
"""What pytest made of a verdict that does not count for its row."""
NOTE = (
    "Weight memory is that of the live tensors, embeddings and head included; the saving is against the same weights "
    "in 16 bits. KL in nats/token; decode speed of each prompt in batches as the engine makes them, not judged."
)


def methods(records: Sequence[Record]) -> list[Record]:
    """The records that are rows: one accuracy verdict for each variant of each model, in the order of the run."""
    judged = {
        (item.model, item.variant): item for item in records if item.check == "accurate" and item.status in JUDGED
    }
    return list(judged.values())


def render_methods(records: Sequence[Record], environment: Mapping[str, object]) -> str:
    """Heading, table, and what was not run; empty where no accuracy was judged.

    Args:
        records: of the whole run. Every other verdict on the same variant counts for its row's verdict.
        environment: what the figures depend on.
    """
    names = short_models(record.model for record in records)
    records = [dataclasses.replace(record, model=names[record.model]) for record in records]
    rows = methods(records)
    if not rows:
        return ""
    cells = [[*COLUMNS], *([cell(row, _verdicts_on(row, records)) for cell in COLUMNS.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_line(row, widths) for row in cells]
    lines.insert(1, "|" + "|".join(_rule(place, width) for place, width in enumerate(widths)) + "|")
    return printable("\n".join([_heading(environment), "", *lines, "", NOTE, *_skips(rows, records)])) + "\n"


def _verdicts_on(row: Record, records: Sequence[Record]) -> list[Record]:
    return [item for item in records if (item.model, item.variant) == (row.model, row.variant)]


def _metric(name: str, show: Callable[[float], str]) -> Callable[[Record, Sequence[Record]], str]:
    def cell(row: Record, _others: Sequence[Record]) -> str:
        metric = row.metrics.get(name)
        return MISSING if metric is None else show(metric.point)

    return cell


def _figure(name: str) -> Callable[[Record, Sequence[Record]], str]:
    def cell(row: Record, _others: Sequence[Record]) -> str:
        value = row.figures.get(name, MISSING)
        return value if isinstance(value, str) else f"{value:g}"

    return cell


def _cost(name: str, show: Callable[[float], str]) -> Callable[[Record, Sequence[Record]], str]:
    """The least that any verdict on the variant knew of: later ones have seen more loads."""

    def cell(_row: Record, others: Sequence[Record]) -> str:
        known = [float(item.figures[name]) for item in others if name in item.figures]
        return show(min(known)) if known else MISSING

    return cell


def _verdict(_row: Record, others: Sequence[Record]) -> str:
    """The worst of all verdicts on the variant, with the checks that gave it, and what none of them vouches for."""
    decided = [item for item in others if item.status in WORST_FIRST and item.overruled not in FORGIVEN]
    if not decided:
        return MISSING
    worst = min((item.status for item in decided), key=WORST_FIRST.index)
    told = str(worst)
    if worst is not Status.PASS:
        told += f" ({', '.join(dict.fromkeys(item.check or 'no verdict' for item in decided if item.status is worst))})"
    missing = dict.fromkeys(name for item in decided for name in item.not_judged)
    return f"{told}; not judged: {', '.join(missing)}" if missing else told


def _number(digits: str) -> Callable[[float], str]:
    return lambda value: brief(value, digits)


COLUMNS: dict[str, Callable[[Record, Sequence[Record]], str]] = {
    "method": lambda row, _: row.variant,
    "model": lambda row, _: row.model,
    "bits": _figure("bits"),
    "group": _figure("group"),
    "weight memory": _metric("weight_memory", format_bytes),
    "vs 16-bit": _metric("weight_saving_16_bit", _number(".2f")),
    "KL": _metric("kl_divergence", _number(".1e")),
    "perplexity": _metric("perplexity_ratio", _number(".4f")),
    "top-1": _metric("top1_agreement", _number(".1%")),
    "flips": _metric("flip_rate", _number(".2%")),
    "quantize s": _cost("quantize_s", _number(".2f")),
    "load s": _cost("load_s", _number(".2f")),
    "load peak": _cost("load_peak_bytes", format_bytes),
    "decode tok/s": _metric("decode_tokens_per_s", _number(".0f")),
    "verdict": _verdict,
}
"""By heading, what a cell says of a row and of all other verdicts on the same variant."""


def _line(cells: Iterable[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if place < LEADING else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"


def _rule(place: int, width: int) -> str:
    return ":" + "-" * (width + 1) if place < LEADING else "-" * (width + 1) + ":"


def _heading(environment: Mapping[str, object]) -> str:
    packages = environment.get("packages")
    versions = packages.items() if isinstance(packages, dict) else ()
    told = [f"Python {environment.get('python', MISSING)}", *(f"{name} {version}" for name, version in versions)]
    gpus = environment.get("gpus")
    hardware = gpus if isinstance(gpus, list) and gpus else [environment.get("cpu", "unknown CPU")]
    return f"Measured on {', '.join(map(str, hardware))}; {', '.join(told)}."


def _skips(rows: Sequence[Record], records: Sequence[Record]) -> list[str]:
    """What was skipped in the files that gave the rows, with the reason."""
    files = {_file(row) for row in rows}
    skipped = [item for item in records if item.status is Status.SKIPPED and _file(item) in files]
    told = dict.fromkeys(f"- {item.variant}: {item.reason}" for item in skipped)
    return ["", "Not run:", "", *told] if told else []


def _file(record: Record) -> str:
    return record.nodeid.partition("::")[0]
