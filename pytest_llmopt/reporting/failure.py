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
    against = "" if reference == candidate.unoptimized() else f", against {_difference(reference, candidate)}"
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
    # What was seen of something that more looking would only add to has no interval, only a lower end.
    if estimate.low < estimate.high and (estimate.low, estimate.high) != (estimate.point, math.inf):
        unit = metric.unit if metric.unit in {"share", "bytes"} else ""
        text += f"  95% CI [{show(estimate.low, unit)}, {show(estimate.high, unit)}]"
    text += f", n={estimate.n}"
    if tolerance is not None:
        bounds = [("at least", tolerance.at_least), ("at most", tolerance.at_most)]
        limits = [f"{sign} {show(bound, metric.unit)}" for sign, bound in bounds if math.isfinite(bound)]
        text += f"; {', '.join(limits) or 'within the noise floor'}: {metric.status}"
    return text


def _difference(reference: Variant, candidate: Variant) -> str:
    """The reference's optimizations, and in what else it differs from the candidate."""
    fields = ("model", "dtype", "device", "engine")
    other = [
        f"{name} {getattr(reference, name)}" for name in fields if getattr(reference, name) != getattr(candidate, name)
    ]
    return ", ".join([reference.label, *other])


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
