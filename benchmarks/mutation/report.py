"""The kill matrix and the score, as text and as JSON."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

SHORT = 70
"""Characters of evidence in the matrix."""


def summary(results: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """What `results.json` holds."""
    mutants = [item for item in results if not item["benign"]]
    benign = [item for item in results if item["benign"]]
    names = list(results[0]["judges"])
    judges = {}
    for name in names:
        seconds = [item["judges"][name]["seconds"] for item in mutants or benign]
        judges[name] = {
            "caught": sum(item["judges"][name]["caught"] is not None for item in mutants),
            "total": len(mutants),
            "false_alarms": sum(item["judges"][name]["caught"] is not None for item in benign),
            "benign_runs": len(benign),
            "median_seconds": round(statistics.median(seconds), 3),
        }
    rows = [
        {
            "id": item["id"],
            "category": item["category"],
            # A failing check has shown it; how large what nobody saw is, this benchmark does not measure.
            "above_floor": True if item["judges"]["gate"]["caught"] is not None else None,
            "caught_by": {name: item["judges"][name]["caught"] for name in names},
        }
        for item in mutants
    ]
    return {"seed": seed, "judges": judges, "mutants": rows, "benign": _benign(benign, names)}


def _benign(results: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Of each benign difference, in how many runs each judge alarmed."""
    found = []
    for identity in dict.fromkeys(item["id"] for item in results):
        runs = [item for item in results if item["id"] == identity]
        alarms = {name: sum(run["judges"][name]["caught"] is not None for run in runs) for name in names}
        found.append({"id": identity, "category": runs[0]["category"], "runs": len(runs), "alarms": alarms})
    return found


def markdown(results: Sequence[dict[str, Any]], seed: int) -> str:
    """What `RESULTS.md` holds."""
    content = summary(results, seed)
    mutants = [item for item in results if not item["benign"]]
    benign = [item for item in results if item["benign"]]
    names = list(content["judges"])
    lines = [
        "# The mutation benchmark",
        "",
        f"Made by `make mutation`, seed {seed}. Seconds on a shared machine: compare them within a row only.",
        "",
        "| judge | caught | false alarms in benign runs | median seconds to a verdict on a mutant |",
        "|---|---|---|---|",
    ]
    for name, own in content["judges"].items():
        caught = f"{own['caught']} of {own['total']}"
        lines.append(f"| {name} | {caught} | {own['false_alarms']} of {own['benign_runs']} | {own['median_seconds']} |")
    missed = [item for item in mutants if item["judges"]["gate"]["caught"] is None]
    lines += ["", f"## What our gate misses ({len(missed)})", ""]
    lines += [f"- `{item['id']}` ({item['category']}, {item['model']}): {item['source']}" for item in missed]
    alarms = [item for item in benign if item["judges"]["gate"]["caught"] is not None]
    lines += ["", f"## False alarms of our gate ({len(alarms)})", ""]
    lines += [f"- `{item['id']}`, seed {item['seed']}: {item['judges']['gate']['caught']}" for item in alarms]
    others = [name for name in names if name != "gate"]
    lines += ["", "## Benign differences: runs that alarmed, of all", ""]
    lines += [f"| benign | runs | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for row in content["benign"]:
        cells = [str(row["alarms"][name] or "") for name in names]
        lines.append(f"| {row['id']} | {row['runs']} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Kill matrix",
        "",
        f"| mutant | category | our gate, and what it says | s | {' | '.join(others)} |",
    ]
    lines.append("|---" * (4 + len(others)) + "|")
    for item in mutants:
        own = item["judges"]["gate"]
        said = "**missed**" if own["caught"] is None else own["caught"][:SHORT].replace("|", "/")
        marks = ["x" if item["judges"][name]["caught"] is not None else "" for name in others]
        lines.append(f"| {item['id']} | {item['category']} | {said} | {own['seconds']:.1f} | {' | '.join(marks)} |")
    return "\n".join(lines) + "\n"
