"""What an honest implementation of a weight format does to given weights and activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_llmopt.statistics.fake_quantizers import (
    CODE_BOOKS,
    LEAST_SCALE,
    affine,
    asymmetric,
    code_book,
    extremes,
    level_gaps,
    sqnr_db,
    symmetric,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.logprobs import FloatArray, IntArray
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
    values = [item.values for item in conventions(form, weights)]
    return Band(
        min(sqnr_db(weights.weight, item, noise) for item in values),
        max(sqnr_db(weights.weight, item) for item in values),
    )


@dataclass(frozen=True, eq=False)
class HonestWeights:
    """Weights after honest rounding by one convention of the scale."""

    values: FloatArray
    """`[outputs, inputs]`."""
    steps: FloatArray
    """The distance of the two levels around each weight: `[outputs, inputs]`."""


def conventions(form: WeightFormat, weights: StoredMap, order: IntArray | None = None) -> Iterator[HonestWeights]:
    """The weights after rounding, once for each convention of the scale that libraries have.

    Args:
        form: the format.
        weights: some outputs of a projection; of a flattened format, from where a group begins.
        order: the inputs in the order in which they are grouped, where they are not grouped as they stand: `[inputs]`.
    """
    stored = in_groups(form, weights.weight)
    shape, size = weights.weight.shape, form.group_of(stored.shape[1])
    span = (weights.low, weights.high) if form.group_size == "tensor" else None
    low, high = extremes(stored, size, order, span)
    for values, steps in _rounded(form, stored, size, order, low, high):
        yield HonestWeights(values.reshape(shape), np.maximum(steps, LEAST_SCALE).reshape(shape))


def in_groups(form: WeightFormat, weights: FloatArray) -> FloatArray:
    """A matrix as its groups run: one long row where they do not end with the rows."""
    return weights.reshape(1, -1) if form.flattened else weights


def _rounded(
    form: WeightFormat, stored: FloatArray, size: int, order: IntArray | None, low: FloatArray, high: FloatArray
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Values and steps; `low` and `high` are the least and greatest value of each one's group."""
    whole = form.group_size == "tensor"
    span = (float(low.flat[0]), float(high.flat[0])) if whole else None
    largest = float(max(-low.flat[0], high.flat[0])) if whole else None
    groups: dict[str, Any] = {"group_size": size, "order": order}
    top = 2**form.bits - 1
    if form.codes == "asymmetric":
        steps = (np.maximum(high, 0) - np.minimum(low, 0)) / top
        yield asymmetric(stored, form.bits, span=span, **groups), steps
    elif form.codes in {"affine", "fitted"}:
        for fits in (0,) if form.codes == "affine" else (0, FITS):
            yield affine(stored, form.bits, span=span, fits=fits, **groups), (high - low) / top
    elif form.codes == "symmetric":
        # The largest weight becomes 7 (torchao), 7.5 (GPTQ) or 8 (GGUF's Q4_0, of its own sign) of 4 bits.
        half = 2 ** (form.bits - 1)
        magnitudes = np.maximum(-low, high)
        for reach, signed in {(max(0.5, half - 1), False), (half - 0.5, False), (half, False), (half, True)}:
            yield (
                symmetric(stored, form.bits, half_range=reach, largest=largest, signed=signed, **groups),
                magnitudes / reach,
            )
    else:
        levels = np.array(form.levels) / np.abs(form.levels).max() if form.levels else CODE_BOOKS[form.codes]
        magnitudes = np.maximum(np.maximum(-low, high), LEAST_SCALE)
        steps = level_gaps(stored / magnitudes, levels) * magnitudes
        yield code_book(stored, levels, largest=largest, **groups), steps


def rounded_activations(kind: str, rows: FloatArray, *, whole: bool = False) -> FloatArray:
    """Activations after rounding by one scale for each row, or one for all of them: `[rows, inputs]`."""
    largest = float(np.abs(rows).max()) if whole else None
    return symmetric(rows, 8, largest=largest) if kind == "int8" else code_book(rows, CODE_BOOKS[kind], largest=largest)


def rounded_to(dtype: str, values: FloatArray) -> FloatArray:
    """Values as a dtype holds them; those of bfloat16 have 8 bits of mantissa and the exponents of float32."""
    if dtype == "float16":
        return values.astype(np.float16).astype(np.float32)
    if dtype != "bfloat16":
        return values
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(mantissa * 2**8) / 2**8, exponent)
