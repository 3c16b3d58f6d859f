"""A verdict that did not pass, as a diagnosis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_llmopt.core.requirements import format_bytes
from pytest_llmopt.core.verdict import Metric, Status, Verdict

if TYPE_CHECKING:
    from pytest_llmopt.core.variant import Variant

HEADLINES = {Status.FAIL: "FAIL", Status.INCONCLUSIVE: "INCONCLUSIVE: the sample cannot decide"}


def explain(verdict: Verdict, candidate: Variant, reference: Variant) -> str:
    """What was promised, the evidence against the limit, the worst place, the likely cause."""
    against = "" if reference == candidate.unoptimized() else f", against {reference.label}"
    lines = [
        (
            f"{verdict.check} {HEADLINES.get(verdict.status, verdict.status)}: "
            f"{candidate.label} on {candidate.engine}, {candidate.model}{against}"
        )
    ]
    judged = [(name, metric) for name, metric in verdict.metrics.items() if metric.status is not None]
    order = [Status.FAIL, Status.INCONCLUSIVE, Status.PASS]
    for name, metric in sorted(judged, key=lambda item: order.index(item[1].status or Status.PASS)):
        lines.append(f"  {name:<18} {describe(metric)}")
    lines += [f"  {line}" for line in verdict.diagnosis]
    return "\n".join(lines)


def describe(metric: Metric) -> str:
    """A metric in words: the value, its interval, the limit, and where the interval lies."""
    estimate, tolerance = metric.estimate, metric.tolerance
    text = show(estimate.point, metric.unit)
    if estimate.low < estimate.high:
        unit = metric.unit if metric.unit in {"share", "bytes"} else ""
        text += f"  95% CI [{show(estimate.low, unit)}, {show(estimate.high, unit)}]"
    text += f", n={estimate.n}"
    if tolerance is not None:
        sign = "at most" if math.isfinite(tolerance.at_most) else "at least"
        text += f"; {sign} {show(tolerance.limit, metric.unit)}: {metric.status}"
    return text


def show(value: float, unit: str = "") -> str:
    """A number for a person: bytes with a binary unit, shares in percent, the rest with three significant digits."""
    if math.isnan(value):
        return "NaN"
    if unit == "bytes":
        return format_bytes(value)
    if unit == "share":
        return f"{value:.2%}"
    text = f"{value:,.0f}" if float(value).is_integer() and abs(value) < 10**9 else f"{value:.3g}"
    return f"{text} {unit}".rstrip()
