"""The kill matrix and the score, as text and as JSON."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from _digests import OURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHORT = 70
"""Characters of evidence in the matrix."""
CRASH = re.compile(r"^raised |^refused: |: \w+Error$")
"""What a verdict says where something broke: it may be the mutant that no longer fits the library or the package."""
FIRST_SIGHT = (
    "The gate's verdict before any check was changed for a mutant or a benign difference, and that of today. "
    "The gate was developed on all others."
)
MATRIX = (
    "First sight: x caught, - missed, empty unknown. "
    "Looked at: what the verdict saw; where several checks count the same, the most."
)


@dataclass(frozen=True)
class Run:
    """How a set of results came about."""

    seed: int
    judges: tuple[str, ...]
    possible: int
    """Benign runs that there could have been: every difference and control under every seed."""
    sample: int | None
    """Benign runs that were asked for; None for all."""
    commit: str
    missing: int = 0
    """Runs that ended in an error of the benchmark, and have no verdict."""

    def words(self, benign: int) -> str:
        """How many of the benign runs were made, and how they were chosen."""
        if self.sample is None or benign >= self.possible:
            return f"All {benign} benign runs."
        how = f"chosen by chance under seed {self.seed}, each difference once before any twice"
        return f"{benign} of {self.possible} benign runs, {how}."


def _judged(results: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """The verdicts of a judge: without what it never saw, and without what is an error of the mutant."""
    own = [item["judges"][name] for item in results]
    return [verdict for verdict in own if not verdict.get("error") and not verdict.get("not_judged")]


def _caught(verdicts: Sequence[Mapping[str, Any]]) -> int:
    return sum(verdict["caught"] is not None for verdict in verdicts)


def summary(results: Sequence[dict[str, Any]], run: Run, first: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What `results.json` holds."""
    mutants = [item for item in results if not item["benign"]]
    benign = [item for item in results if item["benign"]]
    judges = {}
    for name in run.judges:
        seconds = [verdict["seconds"] for verdict in _judged(mutants or benign, name)]
        judges[name] = {
            "caught": _caught(_judged(mutants, name)),
            "total": len(_judged(mutants, name)),
            "false_alarms": _caught(_judged(benign, name)),
            "benign_runs": len(_judged(benign, name)),
            "median_seconds": round(statistics.median(seconds), 3) if seconds else None,
        }
    return {
        "seed": run.seed,
        "commit": run.commit,
        "benign_sample": {"runs": len(benign), "possible": run.possible},
        "without_a_verdict": run.missing,
        "judges": judges,
        "first_sight": first_sight_rates(results, first),
        "mutants": [_row(item, run, first) for item in mutants],
        "benign": _benign(benign, run.judges, first),
    }


def _row(item: dict[str, Any], run: Run, first: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    own = item["judges"].get(OURS, {})
    return {
        "id": item["id"],
        "category": item["category"],
        # A failing check has shown it; how large what nobody saw is, this benchmark does not measure.
        "above_floor": True if own.get("caught") is not None else None,
        "needs": item["needs"],
        "looked_at": own.get("looked_at", {}),
        "first_sight": first.get(item["full_name"], "unknown"),
        "caught_by": {name: item["judges"][name]["caught"] for name in run.judges},
        **({"error": own["error"]} if own.get("error") else {}),
    }


def first_sight_rates(results: Sequence[dict[str, Any]], first: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of mutants and benign differences that were judged before any check was changed for them, then and now."""
    rates: dict[str, Any] = {}
    for kind, benign in (("mutants", False), ("benign", True)):
        known = [item for item in results if item["benign"] == benign and item["full_name"] in first]
        names = {item["full_name"] for item in known}
        alarmed = {item["full_name"] for item in known if item["judges"].get(OURS, {}).get("caught") is not None}
        then = {name for name in names if first[name]["caught"] is not None}
        rates[kind] = {"total": len(names), "first_sight": len(then), "now": len(alarmed)}
    return rates


def _benign(
    results: Sequence[dict[str, Any]], names: Sequence[str], first: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Of each benign difference, in how many runs each judge alarmed."""
    found = []
    for identity in dict.fromkeys(item["full_name"] for item in results):
        runs = [item for item in results if item["full_name"] == identity]
        row = {"id": runs[0]["id"], "category": runs[0]["category"], "runs": len(runs)}
        row |= {"seeds": [run["seed"] for run in runs], "first_sight": first.get(identity, "unknown")}
        found.append({**row, "alarms": {name: _caught(_judged(runs, name)) for name in names}})
    return found


def markdown(results: Sequence[dict[str, Any]], run: Run, first: Mapping[str, Mapping[str, Any]]) -> str:
    """What `RESULTS.md` holds."""
    content = summary(results, run, first)
    mutants = [item for item in results if not item["benign"]]
    benign = [item for item in results if item["benign"]]
    missing = f" {run.missing} runs ended in an error and have no verdict." if run.missing else ""
    made = f"Made by `make mutation`, seed {run.seed}, at commit {run.commit}. {run.words(len(benign))}{missing}"
    lines = [
        "# The mutation benchmark",
        "",
        f"{made} Seconds on a shared machine: compare them within a row only.",
        "",
        *_scores(content),
        *_first_sight(content, results, first),
    ]
    if OURS in run.judges:
        lines += _of_ours(mutants, benign)
    lines += _benign_table(content, run.judges)
    return "\n".join([*lines, *_matrix(mutants, run.judges, first)]) + "\n"


def _scores(content: dict[str, Any]) -> list[str]:
    lines = [
        "| judge | caught | false alarms in benign runs | median seconds to a verdict on a mutant |",
        "|---|---|---|---|",
    ]
    for name, own in content["judges"].items():
        caught = f"{own['caught']} of {own['total']}"
        lines.append(f"| {name} | {caught} | {own['false_alarms']} of {own['benign_runs']} | {own['median_seconds']} |")
    return lines


def _first_sight(
    content: dict[str, Any], results: Sequence[dict[str, Any]], first: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Both rates, and what was seen otherwise at first."""
    mutants, benign = (content["first_sight"][kind] for kind in ("mutants", "benign"))
    lines = [
        "",
        "## First sight",
        "",
        FIRST_SIGHT,
        "",
        "| | total | first sight | now |",
        "|---|---|---|---|",
        f"| new mutants caught | {mutants['total']} | {_share(mutants, 'first_sight')} | {_share(mutants, 'now')} |",
        f"| new benign that alarmed | {benign['total']} | {_share(benign, 'first_sight')} | {_share(benign, 'now')} |",
    ]
    missed = [
        item for item in results if not item["benign"] and first.get(item["full_name"], {}).get("caught", "") is None
    ]
    if missed:
        lines += ["", f"Missed at first sight ({len(missed)}):", ""]
        lines += [f"- `{item['id']}`: needs {', '.join(item['needs']) or 'nothing in particular'}" for item in missed]
    return lines


def _share(row: Mapping[str, int], key: str) -> str:
    return f"{row[key]} ({100 * row[key] / row['total']:.0f} %)" if row["total"] else "none judged"


def _of_ours(mutants: Sequence[dict[str, Any]], benign: Sequence[dict[str, Any]]) -> list[str]:
    errors = [item for item in (*mutants, *benign) if item["judges"][OURS].get("error")]
    lines = ["", f"## Errors of mutants ({len(errors)})", ""] if errors else []
    lines += [f"- `{item['id']}`: {item['judges'][OURS]['error']}" for item in errors]
    missed = [item for item in mutants if item["judges"][OURS]["caught"] is None and item not in errors]
    lines += ["", f"## What our gate misses ({len(missed)})", ""]
    lines += [f"- `{item['id']}` ({item['category']}, {item['model']}): {item['source']}" for item in missed]
    crashed = [item for item in mutants if CRASH.search(item["judges"][OURS]["caught"] or "")]
    lines += ["", f"## Caught by an error, not by a measurement ({len(crashed)})", ""] if crashed else []
    lines += [f"- `{item['id']}`: {item['judges'][OURS]['caught']}" for item in crashed]
    alarms = [item for item in benign if item["judges"][OURS]["caught"] is not None]
    lines += ["", f"## False alarms of our gate ({len(alarms)})", ""]
    return lines + [f"- `{item['id']}`, seed {item['seed']}: {item['judges'][OURS]['caught']}" for item in alarms]


def _benign_table(content: dict[str, Any], names: Sequence[str]) -> list[str]:
    lines = ["", "## Benign differences and controls: runs that alarmed, of all", ""]
    lines += [f"| benign | runs | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for row in content["benign"]:
        cells = [str(row["alarms"][name] or "") for name in names]
        lines.append(f"| {row['id']} | {row['runs']} | {' | '.join(cells)} |")
    return lines


def _matrix(
    mutants: Sequence[dict[str, Any]], names: Sequence[str], first: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    others = [name for name in names if name != OURS]
    lines = [
        "",
        "## Kill matrix",
        "",
        MATRIX,
        "",
        f"| mutant | category | first sight | our gate, and what it says | looked at | s | {' | '.join(others)} |",
        "|---" * (6 + len(others)) + "|",
    ]
    for item in mutants:
        own = item["judges"].get(OURS, {"caught": None, "seconds": 0.0, "error": "not judged"})
        said = own.get("error") or ("**missed**" if own["caught"] is None else own["caught"])
        at_first = first.get(item["full_name"])
        sight = "" if at_first is None else "-" if at_first["caught"] is None else "x"
        marks = ["x" if item["judges"][name]["caught"] is not None else "" for name in others]
        shown = said[:SHORT].replace("|", "/").replace("\n", " ")
        cells = [
            item["id"],
            item["category"],
            sight,
            shown,
            _seen(own.get("looked_at", {})),
            f"{own['seconds']:.1f}",
            *marks,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _seen(looked_at: Mapping[str, Mapping[str, int]]) -> str:
    """In one cell."""
    most: dict[str, int] = {}
    for own in looked_at.values():
        for key, count in own.items():
            most[key] = max(most.get(key, 0), count)
    return ", ".join(f"{key} {count}" for key, count in most.items() if count)
