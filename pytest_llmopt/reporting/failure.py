"""A verdict that did not pass, as a diagnosis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_llmopt.core.requirements import format_bytes
from pytest_llmopt.core.text import brief, printable
from pytest_llmopt.core.verdict import Metric, Status, Tolerance, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.variant import Variant


def explain(verdict: Verdict, candidate: Variant, reference: Variant) -> str:
    """What was promised, the evidence against the limit, the worst place, the likely cause."""
    against = "" if reference == candidate.unoptimized() else f", against {_difference(reference, candidate)}"
    judged = [(name, metric) for name, metric in verdict.metrics.items() if metric.status is not None]
    order = [Status.FAIL, Status.INCONCLUSIVE, Status.PASS]
    judged.sort(key=lambda item: order.index(item[1].status or Status.PASS))
    lines = [
        # The short summary of pytest shows the beginning of this line, in what room the test's name leaves.
        f"{verdict.check} {verdict.status}: {_cause(judged)}",
        f"  {candidate.label} on {candidate.engine}, {candidate.model}{against}",
    ]
    lines += [f"  {name:<18} {describe(metric)}" for name, metric in judged]
    lines += [f"  {line}" for line in verdict.diagnosis]
    lines += [f"  {line}" for line in left_out(verdict)]
    return printable("\n".join(lines))


def left_out(verdict: Verdict) -> list[str]:
    """What was not judged and why, a line for each."""
    return [f"not judged: {name}: {reason}" for name, reason in verdict.not_judged.items()]


def _cause(judged: Sequence[tuple[str, Metric]]) -> str:
    """The first metric that did not pass, beside its limit, and how many more there are."""
    failed = [(name, metric) for name, metric in judged if metric.status is not Status.PASS]
    if not failed:
        return "nothing could be judged"
    name, metric = failed[0]
    more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
    undecided = "; the sample cannot decide" if metric.status is Status.INCONCLUSIVE else ""
    return f"{name} {show(metric.estimate.point, metric.unit)}, {_limits(metric)}{more}{undecided}"


def describe(metric: Metric) -> str:
    """A metric in words: the value, its interval, the limit, and where the interval lies."""
    estimate, tolerance = metric.estimate, metric.tolerance
    text = show(estimate.point, metric.unit)
    # What was seen of something that more looking would only add to has no interval, only a lower end.
    if estimate.low < estimate.high and (estimate.low, estimate.high) != (estimate.point, math.inf):
        unit = metric.unit if metric.unit in {"share", "bytes"} else ""
        confidence = "" if estimate.confidence is None else f"{_percent(estimate.confidence)}% CI "
        text += f"  {confidence}[{show(estimate.low, unit)}, {show(estimate.high, unit)}]"
    text += f", n={estimate.n}"
    if tolerance is not None:
        text += f"; {_limits(metric)}: {metric.status}"
    return text


def _percent(confidence: float) -> str:
    """In percent, with as many digits as it takes not to be rounded up to 100, which no interval has."""
    texts = (f"{100 * confidence:.{digits}g}" for digits in range(4, 17))
    return next((text for text in texts if float(text) < 100), "100")  # noqa: PLR2004 - percent


def _limits(metric: Metric) -> str:
    tolerance = metric.tolerance or Tolerance()
    bounds = [("at least", tolerance.at_least), ("at most", tolerance.at_most)]
    limits = [f"{sign} {show(bound, metric.unit)}" for sign, bound in bounds if math.isfinite(bound)]
    return ", ".join(limits) or "within the noise floor"


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
        return brief(value, ".2%")
    text = brief(value, ",.0f" if float(value).is_integer() else ".3g")
    return f"{text} {unit}".rstrip()
