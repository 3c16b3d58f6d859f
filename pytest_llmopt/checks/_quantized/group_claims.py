"""What must be true of the worst group of a quantized model, and of its worst weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_llmopt.checks._quantized.groups import Worst
    from pytest_llmopt.checks._quantized.modules import ProjectionErrors
    from pytest_llmopt.core.weight_format import WeightFormat


@dataclass(frozen=True)
class GroupLimits:
    """What an honest group may have."""

    error: float
    """Squared error, over that of rounding to nearest."""
    weight: float
    """Error of one weight, over the most that rounding to nearest gives."""
    gain: float
    """Factor between the weights of a group and the honest ones."""
    shift: float
    """Mean error of a group, in steps."""


NEAREST = GroupLimits(2.5, 2.2, 1.3, 0.6)
"""Honest libraries give 1.8, 2.0 (a tie rounded the other way), 1.05 and 0.26 at most, in float32 and bfloat16."""
FITTED = GroupLimits(2.5, 2.5, 1.3, 0.6)
"""hqq gives 1.9, 1.9, 1.25 (in 2 bits) and 0.21 at most."""
CALIBRATED = {
    4: GroupLimits(20.0, 12.0, 1.3, 0.7),
    3: GroupLimits(20.0, 12.0, 1.5, 0.7),
    0: GroupLimits(25.0, 12.0, 6, 1),
}
"""By the least bits that they are for. GPTQ with `desc_act` in groups of 32 gives 12, 7 and 1.14 at 4 bits; at 3 bits
11, 6 and 1.34, at 2 bits 16, 8 and 3.4: in so few bits, one scale that is off by half is no more than what it moves."""


def group_limits(form: WeightFormat) -> GroupLimits:
    """By how the weights are chosen."""
    if form.calibrated:
        return next(limits for least, limits in CALIBRATED.items() if form.bits >= least)
    return FITTED if form.codes == "fitted" else NEAREST


def group_claims(form: WeightFormat, found: Sequence[ProjectionErrors]) -> list[Claim]:
    """The claims about groups, each with the place of the worst one."""
    limits = group_limits(form)
    groups = sum(item.groups.groups for item in found)

    def claim(name: str, pick: Callable[[ProjectionErrors], Worst], at_most: float, unit: str, words: str) -> Claim:
        item = max(found, key=lambda one: pick(one).value)
        worst = pick(item)
        return Claim(
            name,
            Metric(Estimate.exact(worst.value, groups), Tolerance(at_most=at_most), unit),
            f"{item.name}, {worst.place}: {words.format(worst.value)} for {form.label}; its weights are "
            f"{_times(worst.gain)} the reference's: look at the scale, the zero point and the codes of this group",
        )

    claims = [
        claim(
            "group_error",
            lambda item: item.groups.error,
            limits.error,
            "of rounding",
            "{:.3g} times the squared error of rounding to nearest",
        ),
        claim(
            "weight_error",
            lambda item: item.groups.weight,
            limits.weight,
            "of rounding",
            "a weight is off by {:.3g} times what rounding to nearest may give",
        ),
        claim(
            "group_gain",
            lambda item: item.groups.gain,
            limits.gain,
            "times",
            "a group is scaled by a factor of {:.3g}, up or down,",
        ),
        claim(
            "group_shift",
            lambda item: item.groups.shift,
            limits.shift,
            "steps",
            "the weights of a group are off by {:.3g} steps in the mean",
        ),
    ]
    unread = [item for item in found if item.seen < 1]
    if unread:
        share = 1 - sum(item.seen for item in found) / len(found)
        claims.append(
            Claim(
                "unread_weights",
                Metric(Estimate.exact(share, len(found)), Tolerance(at_most=1), "share"),
                "the model has more weights than are read",
            )
        )
    return claims


def _times(gain: float) -> str:
    return f"{gain:.2f} times" if math.isfinite(gain) else "not finite and no multiple of"
