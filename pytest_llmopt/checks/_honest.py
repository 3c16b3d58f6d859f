"""What an honest implementation of a weight format does to given weights and activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.statistics.fake_quantizers import CODE_BOOKS, affine, asymmetric, code_book, sqnr_db, symmetric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.core.probing import StoredMap
    from pytest_llmopt.core.weight_format import WeightFormat

UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}

HALF_STEP = 0.5 / 127
"""Of int8 activations, by their largest value."""

FITS = 5
"""Of an offset: hqq's own lie within 0.1 dB of it at 2 to 8 bits on `tiny-llama`, and 0.9 above it at 1 bit."""


@dataclass(frozen=True)
class Band:
    """The SQNR that honest implementations of a format have on some weights, in dB."""

    low: float
    high: float


def coarsest(*dtypes: str | None) -> float:
    """The unit roundoff of the coarsest of some dtypes; what is not known counts as bfloat16."""
    return max(UNIT_ROUNDOFF.get(dtype, UNIT_ROUNDOFF["bfloat16"]) for dtype in dtypes if dtype is not None)


def sqnr_band(form: WeightFormat, weights: StoredMap, unit: float) -> Band:
    """From the coarsest to the finest step that libraries take for this format.

    The lower end has the arithmetic too. Scale, weight and output are rounded to the dtype, each with a mean square of
    at most u^2/3 of the value (u: unit roundoff), and so is an output that a bias was added to. Where activations are
    rounded to int8, so is the 1 by which weights are read: by half a step where the range is 127.5 (torchao).
    """
    columns = weights.weight.shape[1]
    power = float(np.square(weights.weight, dtype=np.float64).sum())
    shifted = columns * float(np.square(weights.bias, dtype=np.float64).sum())
    clipped = HALF_STEP**2 if form.activations == "int8" else 0.0
    noise = unit**2 * (power + shifted) + clipped * power
    rounded = list(_rounded(form, weights))
    return Band(
        min(sqnr_db(weights.weight, item, noise) for item in rounded),
        max(sqnr_db(weights.weight, item) for item in rounded),
    )


def _rounded(form: WeightFormat, weights: StoredMap) -> Iterator[FloatArray]:
    """The weights after rounding, once for each convention of the scale."""
    group_size = form.group_of(weights.weight.shape[1])
    whole = form.group_size == "tensor"
    largest = max(-weights.low, weights.high) if whole else None
    span = (weights.low, weights.high) if whole else None
    if form.codes == "asymmetric":
        yield asymmetric(weights.weight, form.bits, group_size=group_size, span=span)
    elif form.codes == "affine":
        yield affine(weights.weight, form.bits, group_size=group_size, span=span)
    elif form.codes == "fitted":
        for fits in (0, FITS):
            yield affine(weights.weight, form.bits, group_size=group_size, span=span, fits=fits)
    elif form.codes == "symmetric":
        # The largest weight becomes 7 (torchao), 7.5 (GPTQ) or 8 (GGUF's Q4_0) of 4 bits.
        top = 2 ** (form.bits - 1)
        for half in {max(0.5, top - 1), top - 0.5, top}:
            yield symmetric(weights.weight, form.bits, group_size=group_size, half_range=half, largest=largest)
    else:
        yield code_book(weights.weight, CODE_BOOKS[form.codes], group_size=group_size, largest=largest)


def rounded_activations(kind: str, rows: FloatArray) -> FloatArray:
    """Activations after rounding by one scale for each row: `[rows, inputs]`."""
    return symmetric(rows, 8) if kind == "int8" else code_book(rows, CODE_BOOKS[kind])


def rounded_to(dtype: str, values: FloatArray) -> FloatArray:
    """Values as a dtype holds them; those of bfloat16 have 8 bits of mantissa and the exponents of float32."""
    if dtype == "float16":
        return values.astype(np.float16).astype(np.float32)
    if dtype != "bfloat16":
        return values
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(mantissa * 2**8) / 2**8, exponent)
