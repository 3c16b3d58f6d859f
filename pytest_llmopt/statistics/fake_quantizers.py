"""Weights and activations rounded to nearest in the formats of the field, independent of every quantization library.

A fake quantizer gives the values that stand behind the codes, so that its error is that of an honest implementation.
All take `[rows, columns]` and share one scale among `group_size` neighboring columns of a row; 0 takes the whole row.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import FloatArray, IntArray

NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""Quantiles of a normal distribution (QLoRA, arXiv:2305.14314, appendix E)."""
FP4_MAGNITUDES = (0.0, 0.0625 / 12, 2 / 12, 3 / 12, 4 / 12, 6 / 12, 8 / 12, 12 / 12)
"""bitsandbytes' own 4-bit float: one bit of mantissa, a subnormal of 1/16, the largest of 12 (csrc/kernels.cu)."""
E4M3_MAX = 448.0
LEAST_SCALE = 1e-12
"""Of a group of zeros, whatever it is divided by."""


def _e4m3() -> tuple[float, ...]:
    """Every finite magnitude: subnormals of 2^-9, then three bits of mantissa from 2^-6 to 448 (arXiv:2209.05433)."""
    normal = [(8 + mantissa) * 2.0 ** (exponent - 3) for exponent in range(-6, 9) for mantissa in range(8)]
    return (*(mantissa * 2.0**-9 for mantissa in range(8)), *(value for value in normal if value <= E4M3_MAX))


def _signed(magnitudes: tuple[float, ...]) -> FloatArray:
    return np.unique(np.array([*magnitudes, *(-value for value in magnitudes)]))


CODE_BOOKS = {
    "nf4": np.array(NF4),
    "fp4": _signed(FP4_MAGNITUDES),
    "fp8_e4m3": _signed(_e4m3()) / E4M3_MAX,
}
"""Ascending levels, scaled so that the largest magnitude is 1."""


def symmetric(
    values: FloatArray,
    bits: int,
    *,
    group_size: int = 0,
    order: IntArray | None = None,
    half_range: float | None = None,
    largest: float | None = None,
    signed: bool = False,
) -> FloatArray:
    """Integers around 0, one scale a group, from the largest magnitude: `[rows, columns]`.

    Args:
        values: `[rows, columns]`.
        bits: of a code; codes lie in [-2^(bits-1), 2^(bits-1) - 1].
        group_size: columns that share a scale.
        order: the columns in the order in which they are grouped (act-order): `[columns]`.
        half_range: the code that the largest magnitude gets, 2^(bits-1) - 1 unless the library has another.
        largest: magnitude of the whole tensor, which makes the scale one for all.
        signed: the extreme of each group gets the lowest code, whatever its sign: the scale may be negative (GGUF).
    """
    top = 2 ** (bits - 1)
    half = top - 1 if half_range is None else half_range
    low, high = extremes(values, group_size, order, None if largest is None else (-largest, largest))
    scales = np.maximum(np.maximum(-low, high) / half, LEAST_SCALE)
    if signed:
        scales = np.where(high > -low, -scales, scales)
    return np.clip(np.rint(values / scales), -top, top - 1) * scales


def asymmetric(
    values: FloatArray,
    bits: int,
    *,
    group_size: int = 0,
    order: IntArray | None = None,
    span: tuple[float, float] | None = None,
) -> FloatArray:
    """Integers from the least to the greatest value of a group, 0 included, with a zero point that is a code.

    Args:
        values: `[rows, columns]`.
        bits: of a code; codes lie in [0, 2^bits - 1].
        group_size: columns that share a scale and a zero point.
        order: the columns in the order in which they are grouped (act-order): `[columns]`.
        span: least and greatest value of the whole tensor, which makes scale and zero point one for all.
    """
    low, high = extremes(values, group_size, order, span)
    top = 2**bits - 1
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scales = np.maximum((high - low) / top, LEAST_SCALE)
    zeros = np.clip(np.rint(-low / scales), 0, top)
    return (np.clip(np.rint(values / scales) + zeros, 0, top) - zeros) * scales


def affine(
    values: FloatArray,
    bits: int,
    *,
    group_size: int = 0,
    order: IntArray | None = None,
    span: tuple[float, float] | None = None,
    fits: int = 0,
) -> FloatArray:
    """Equal steps from the least to the greatest value of a group, both of them exact: `[rows, columns]`.

    Zero need not be a level, nor lie between the two (optimum-quanto, GGUF's Q4_1, torchao's tinygemm).

    Args:
        values: `[rows, columns]`.
        bits: of a code; codes lie in [0, 2^bits - 1].
        group_size: columns that share a scale and an offset.
        order: the columns in the order in which they are grouped (act-order): `[columns]`.
        span: least and greatest value of the whole tensor, which makes scale and offset one for all.
        fits: how often the offset is moved to where the squared error of the codes is least, and the codes are chosen
            again; the steps keep their size (hqq, with another norm of the error).
    """
    low, high = extremes(values, group_size, order, span)
    top = 2**bits - 1
    scales = np.maximum((high - low) / top, LEAST_SCALE)
    steps = np.rint((values - low) / scales) * scales
    sizes = reduced(np.add, np.ones_like(values), group_size, order)
    for _ in range(fits):
        low = reduced(np.add, values - steps, group_size, order) / sizes
        steps = np.clip(np.rint((values - low) / scales), 0, top) * scales
    return steps + low


def code_book(
    values: FloatArray,
    levels: FloatArray,
    *,
    group_size: int = 0,
    order: IntArray | None = None,
    largest: float | None = None,
) -> FloatArray:
    """The nearest levels of a code book that is scaled to the largest magnitude of each group: `[rows, columns]`.

    Args:
        values: `[rows, columns]`.
        levels: ascending, of magnitude 1 at most.
        group_size: columns that share a scale.
        order: the columns in the order in which they are grouped (act-order): `[columns]`.
        largest: magnitude of the whole tensor, which makes the scale one for all.
    """
    low, high = extremes(values, group_size, order, None if largest is None else (-largest, largest))
    scales = np.maximum(np.maximum(-low, high), LEAST_SCALE)
    middles = ((levels[1:] + levels[:-1]) / 2).astype(values.dtype)
    return levels.astype(values.dtype)[np.searchsorted(middles, values / scales)] * scales


def level_gaps(values: FloatArray, levels: FloatArray) -> FloatArray:
    """The distance between the two levels of a code book around each value, and of the last two beyond them.

    Args:
        values: of any shape, in the unit of the levels.
        levels: ascending.
    """
    places = np.clip(np.searchsorted(levels, values), 1, len(levels) - 1)
    return np.diff(levels).astype(values.dtype)[places - 1]


def sqnr_db(values: FloatArray, approximations: FloatArray, noise: float = 0.0) -> float:
    """Signal-to-quantization-noise ratio, in dB; infinite where nothing differs, NaN where something is NaN.

    Args:
        values: the signal.
        approximations: what stands for it, of the same shape.
        noise: power of further noise, which adds to the squared differences.
    """
    difference = (approximations - values).ravel()
    signal, error = float(np.vdot(values, values)), float(np.vdot(difference, difference)) + noise
    if error == 0:
        return math.inf
    return 10 * math.log10(signal / error) if signal > 0 else -math.inf if signal == 0 else math.nan


def extremes(
    values: FloatArray, group_size: int, order: IntArray | None, span: tuple[float, float] | None
) -> tuple[FloatArray, FloatArray]:
    """The least and greatest value of each one's group, or those given for the whole tensor: `[rows, columns]` each."""
    if span is not None:
        return np.full_like(values, span[0]), np.full_like(values, span[1])
    return reduced(np.minimum, values, group_size, order), reduced(np.maximum, values, group_size, order)


def reduced(reduce: np.ufunc, values: FloatArray, group_size: int, order: IntArray | None) -> FloatArray:
    """The extreme of each group, at every column that is in it: `[rows, columns]`. The last group may be shorter."""
    columns = values.shape[1]
    size = group_size or columns
    ordered = values if order is None else values[:, order]
    found = reduce.reduceat(ordered, np.arange(0, columns, size), axis=1)
    spread = np.repeat(found, size, axis=1)[:, :columns]
    if order is None:
        return spread
    back = np.empty_like(spread)
    back[:, order] = spread
    return back
