"""What must be true of every projection of a model whose quantizer says which format its weights have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_llmopt.checks._quantized.group_claims import group_claims
from pytest_llmopt.checks._quantized.modules import measure
from pytest_llmopt.checks._quantized.probe import NEEDED
from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance
from pytest_llmopt.core.weight_format import HasWeightFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_llmopt.checks._quantized.modules import ProjectionErrors
    from pytest_llmopt.core.claims import Use
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.weight_format import WeightFormat

SHORTFALL_DB = 1.5
"""Below the band. Honest quantizers of the zoo stay within 0.4 dB in all dtypes, act-order included; a bit is 6 dB."""
CALIBRATED_SHORTFALL_DB = 4.5
"""GPTQ gives weight error away to make the error of the output smaller: 2.8 dB at most on the zoo, and AutoRound 1.3.

The margin is that of the others and a little more, since what is given away depends on the text.
"""
EXCESS_DB = 3.0
"""Above the band: half a bit. A search for the best clipping gains about 1 dB at 4 bits."""
BIAS_ERROR = 2.0**-7
"""Twice what storing it in bfloat16 may cost."""
ACTIVATION_ERROR = (0.25, 4.0)
"""Of the power of honest rounding: a bit around it. Honest libraries give 0.64 to 1.5 (torchao has another scale)."""
UNPROMISED_ERROR = 0.5
"""Of the power of int8 rounding, where none is promised; bitsandbytes' 4-bit kernels for a CPU give up to 0.17."""


def module_claims(options: object, candidate: Side, reference: Side, use: Use, *, seed: int = 0) -> list[Claim]:
    """The claims of a quantizer's `weight_format`; none where it has none, or where an engine cannot be probed."""
    form = options.weight_format if isinstance(options, HasWeightFormat) else None
    if form is None or not all(side.can(*NEEDED) for side in (candidate, reference)):
        return []
    found, changed = measure(form, candidate, reference, use, seed=seed)
    claims = [
        Claim(
            "kept_modules_changed",
            Metric(Estimate.exact(len(changed)), Tolerance(at_most=0), "modules"),
            f"{', '.join(changed)} must stay as the reference's, bit by bit, and its outputs differ",
        )
    ]
    return (
        claims + _of_weights(form, found) + group_claims(form, found) + _of_activations(form, found)
        if found
        else claims
    )


def _of_weights(form: WeightFormat, found: Sequence[ProjectionErrors]) -> list[Claim]:
    short, at_most = _worst(found, lambda item: item.shortfall_db), _shortfall_limit(form)
    good, bias = _worst(found, lambda item: item.excess_db), _worst(found, lambda item: item.bias_error)
    far = sum(not item.shortfall_db <= at_most for item in found)
    near = sum(not item.excess_db <= EXCESS_DB for item in found)
    claims = [
        Claim(
            "sqnr_shortfall",
            Metric(Estimate.exact(short.shortfall_db, len(found)), Tolerance(at_most=at_most), "dB"),
            f"{_sqnr(form, short)}; {far} of {len(found)} projections are too far from the reference. {_hint(short)}",
        ),
        Claim(
            "sqnr_excess",
            Metric(Estimate.exact(good.excess_db, len(found)), Tolerance(at_most=EXCESS_DB), "dB"),
            f"{_sqnr(form, good)}; {near} of {len(found)} projections are too good: are they left unquantized, or in "
            "more bits?",
        ),
        Claim(
            "bias_error",
            Metric(Estimate.exact(bias.bias_error, len(found)), Tolerance(at_most=BIAS_ERROR), "of its size"),
            f"{bias.name}: zeros give {_bias(bias.bias_error)}",
        ),
    ]
    counted = [item for item in found if item.excess_levels is not None]
    if counted:
        many = _worst(counted, lambda item: float(item.excess_levels or 0))
        claims.append(
            Claim(
                "excess_levels",
                Metric(Estimate.exact(many.excess_levels or 0, len(counted)), Tolerance(at_most=0), "levels"),
                f"{many.name}: a group has {2**form.bits + (many.excess_levels or 0)} distinct weights, and "
                f"{form.bits} bits are {2**form.bits}: unquantized, or weights of one group have several scales",
            )
        )
    return claims


def _of_activations(form: WeightFormat, found: Sequence[ProjectionErrors]) -> list[Claim]:
    low, high = ACTIVATION_ERROR
    promised = form.activations is not None
    ran = [(item, item.activation_error) for item in found if item.activation_error is not None]
    mated = [(item, item.batch_dependence) for item in found if item.batch_dependence is not None]
    claims = []
    rounded = form.activations or "int8"
    if ran:
        off, error = _largest(ran, lambda value: abs(math.log(max(value, 1e-30))) if promised else value)
        if not promised:
            otherwise = f"are not promised to be rounded, and the output is off as if they were ({rounded})"
        elif error < low:
            otherwise = f"are promised to be rounded to {rounded}, and are not: this runs another kernel"
        else:
            otherwise = f"are rounded to {rounded} by a worse scale than their own, or sums of codes overflow"
        claims.append(
            Claim(
                "activation_error",
                Metric(
                    Estimate.exact(error, len(ran)),
                    Tolerance(at_least=low, at_most=high) if promised else Tolerance(at_most=UNPROMISED_ERROR),
                    f"of {rounded} rounding",
                ),
                f"{off.name}: an error of {error:.2g} times the power of honest rounding; activations {otherwise}",
            )
        )
    if mated:
        moved, change = _largest(mated, lambda value: value)
        claims.append(
            Claim(
                "batch_dependence",
                Metric(Estimate.exact(change, len(mated)), Tolerance(at_most=1), "of arithmetic"),
                f"{moved.name}: a row changes {change:.2g} times as much as arithmetic explains when it is alone in "
                "its batch: is a scale taken over the batch? Where that is by design, say so: "
                "WeightFormat(activation_scales='tensor')",
            )
        )
    return claims


def _largest(
    values: Sequence[tuple[ProjectionErrors, float]], key: Callable[[float], float]
) -> tuple[ProjectionErrors, float]:
    return max(values, key=lambda item: math.inf if math.isnan(key(item[1])) else key(item[1]))


def _shortfall_limit(form: WeightFormat) -> float:
    return CALIBRATED_SHORTFALL_DB if form.calibrated else SHORTFALL_DB


def _worst(found: Sequence[ProjectionErrors], key: Callable[[ProjectionErrors], float]) -> ProjectionErrors:
    return max(found, key=lambda item: math.inf if math.isnan(key(item)) else key(item))


def _sqnr(form: WeightFormat, item: ProjectionErrors) -> str:
    low, high = item.honest.low, item.honest.high
    honest = f"{low:.1f}" if high - low < 0.1 else f"{low:.1f} to {high:.1f}"  # noqa: PLR2004 - as printed
    return f"{item.name}: SQNR {item.sqnr_db:.1f} dB, where {form.label} gives {honest} dB"


def _bias(error: float) -> str:
    if math.isinf(error):
        return "a bias, and the reference has none"
    return f"a bias that is off by {error:.2g} times the reference's: dropped, added twice, or another one?"


def _hint(item: ProjectionErrors) -> str:
    """What the shape of the error says of its cause."""
    if not math.isfinite(item.sqnr_db):
        return "Its weights are not finite: look at its scales"
    if item.shift > 0.5:  # noqa: PLR2004 - most of it
        return "Most of the error is one constant for each group: look at its zero points"
    if abs(item.gain - 1) > 0.1 and item.gain > 0.5:  # noqa: PLR2004 - 10 %, and still the same matrix
        return f"Its weights are {item.gain:.2f} times the reference's: look at its scales"
    return "Look at the order of its codes, rows and groups (packing, act-order), then at its scales"
