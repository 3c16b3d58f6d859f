"""What the sweep found, as Markdown: one row for each type, and the counts above them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

COPY = "permuted"


def sight(result: dict[str, Any]) -> str:
    """How a type came out: `clean`, `missed`, `alarm`, `unsound`, `refused`, or `not built`."""
    if "not_built" in result or "crashed" in result:
        return "not built"
    if "refused" in result:
        return "unsound" if result["refused"].startswith("Unsound") else "refused"
    control, scaled = result["control"]["status"], result["scaled"]["status"]
    if control == "UnsoundReferenceError":
        return "unsound"
    if control != "PASS":
        return "alarm"
    return "clean" if scaled == "FAIL" else "missed"


def markdown(results: Sequence[dict[str, Any]], seed: int, known: int) -> str:
    """What `RESULTS.md` holds."""
    by_sight = {name: [item for item in results if sight(item) == name] for name in SIGHTS}
    judged = by_sight["clean"] + by_sight["missed"] + by_sight["alarm"]
    opened = [item for item in results if "floor" in item]
    proven = [item for item in opened if any(name.startswith(COPY) for name in item["floor"]["changes"])]
    lines = [
        "# Architectures",
        "",
        f"Made by `make architectures`, seed {seed}: tiny random copies of the causal language models of the installed",
        "Transformers, in float32. The control is the same model loaded once more; `x 1.03` has its last layer scaled.",
        "",
        f"- {len(results)} of {known} types (a sample by the seed where not all)",
        f"- {len(opened)} references with a noise floor, {len(judged)} judged",
        f"- permuted copies proved benign on {len(proven)}; left out with the reason on {len(opened) - len(proven)}",
        f"- scaled layer caught on {sum(item['scaled']['status'] == 'FAIL' for item in judged)} of {len(judged)}",
        f"- false alarms on the control: {len(by_sight['alarm'])}",
        "",
        "| sight | types |",
        "|---|---|",
    ]
    lines += [f"| {SIGHTS[name]} | {len(found)} |" for name, found in by_sight.items()]
    lines += ["", "| type | sight | permuted copies | control: mean KL | x 1.03: mean KL | remark |", "|---" * 6 + "|"]
    return "\n".join([*lines, *map(_row, results)]) + "\n"


SIGHTS = {
    "clean": "clean: the control passes, the scaled layer fails",
    "missed": "missed: the scaled layer does not fail",
    "alarm": "alarm: the control does not pass",
    "unsound": "the reference contradicts itself, and says so",
    "refused": "refused in words",
    "not built": "no copy, or it ended without a verdict",
}


def _row(result: dict[str, Any]) -> str:
    kind = result["type"]
    remark = next((result[name] for name in ("not_built", "crashed", "refused") if name in result), "")
    copies = control = scaled = ""
    if "floor" in result:
        floor = result["floor"]
        figures = [value for name, value in floor["changes"].items() if name.startswith(COPY)]
        reasons = [why for name, why in floor["left_out"].items() if name.startswith(COPY)]
        copies = f"{max(figures):.1e}" if figures else "left out"
        remark = remark or "; ".join(
            [*reasons, *(f"{name} {value:.1e}" for name, value in floor["contradictions"].items())]
        )
    if "control" in result:
        control, scaled = (_verdict(result[name]) for name in ("control", "scaled"))
        if result["control"]["status"] != "PASS":
            remark = result["control"]["evidence"]
    remark = " ".join(str(remark).split()).replace("|", "/")[:160]
    return f"| {kind} | {sight(result)} | {copies} | {control} | {scaled} | {remark} |"


def _verdict(judged: dict[str, Any]) -> str:
    figure = f" {judged['mean_kl']:.1e}" if "mean_kl" in judged else ""
    return f"{judged['status']}{figure}"
