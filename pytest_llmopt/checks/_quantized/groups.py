"""Every group of weights that shares a scale, held to what rounding to nearest gives for that very group.

The SQNR of a whole matrix hides one bad group among thousands: a block of 64 whose scale is doubled costs 0.3 dB of a
matrix of 128 x 352. Here the worst group and the worst weight count, however large the matrix is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._quantized.honest import HALF_STEP, HonestWeights, conventions, in_groups
from pytest_llmopt.statistics.fake_quantizers import LEAST_SCALE, extremes

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import FloatArray, IntArray
    from pytest_llmopt.core.probing import AffineMap, StoredMap
    from pytest_llmopt.core.weight_format import WeightFormat

LONGEST = 128
"""Weights that are looked at together, at most: of a whole row with one scale, a bad stretch would be lost too."""
ROUNDINGS = 3
"""Of a weight on its way: scale, product of code and scale, and output, each by a unit roundoff of its value."""
NESTED = 0.008
"""Of the largest of some scales: half the widest gap of the code book that bitsandbytes rounds them to, and more."""
SUSPICIOUS = 1.2
"""Squared error over that of rounding, beyond which a group's gain is looked at."""


@dataclass(frozen=True)
class Worst:
    """A figure of the group, or the weight, that has the largest."""

    value: float
    place: str
    """Its row and columns, in words."""
    gain: float
    """The factor on the honest weights of its group that fits best."""


@dataclass(frozen=True)
class GroupErrors:
    """What the groups of one projection have in the worst case."""

    groups: int
    """Looked at."""
    error: Worst
    """Squared error of a group, over that of rounding to nearest by the same steps."""
    weight: Worst
    """Error of one weight, over the most that rounding it to nearest may give."""
    gain: Worst
    """Distance of a group's gain from 1, as a factor: 2 for weights that are doubled or halved."""
    shift: Worst
    """Mean error of a group, in steps: 1 for a zero point that is off by one."""


def group_errors(
    form: WeightFormat,
    stored: StoredMap,
    effective: AffineMap,
    unit: float,
    rows: IntArray,
    order: IntArray | None = None,
) -> GroupErrors:
    """The worst groups of some outputs of a projection.

    A step is the distance of two neighboring levels. Rounding to nearest is wrong by half a step at most, and by
    step^2/12 in the mean square, to which arithmetic adds: `ROUNDINGS` roundings of a weight, or of the largest weight
    of its group where an offset is added.

    Args:
        form: the format.
        stored: the reference's weights.
        effective: the candidate's, for the same outputs.
        unit: unit roundoff of the arithmetic.
        rows: the numbers of these outputs in the projection.
        order: the inputs in the order in which they are grouped, where they are not grouped as they stand.
    """
    own, theirs = (item.weight.astype(np.float32, copy=False) for item in (effective, stored))
    rounded = _nearest(list(conventions(form, stored, order)), own)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.nan_to_num(np.abs(own - theirs), nan=np.inf, posinf=np.inf)
    magnitudes = np.abs(theirs)
    view = _View(form, rows, theirs.shape[1], order)
    if form.codes in {"asymmetric", "affine", "fitted"}:
        magnitudes = view.spread(np.maximum, magnitudes)
    slack = ROUNDINGS * unit * (magnitudes + np.abs(stored.bias)[:, None])
    slack += (HALF_STEP if form.activations == "int8" else 0.0) * np.abs(theirs) + np.float32(1e-30)
    if form.nested_scales:
        slack += NESTED * np.abs(theirs) * _nested(form, theirs)
    missed = np.abs(rounded.values - theirs)
    over = error / (np.maximum(missed, rounded.steps / 2) + slack)
    honest = np.maximum(view.sums(rounded.steps**2 / 12), view.sums(missed**2)) + view.sums(slack**2) / ROUNDINGS
    with np.errstate(invalid="ignore", over="ignore"):
        ratio = view.sums(error**2) / honest
        gains = _gains(view, own, theirs, rounded)
        shift = np.abs(view.sums(own - theirs)) / view.sums(rounded.steps + slack)
        away = np.exp(np.minimum(np.abs(np.log(np.maximum(gains, 1e-3))), 10))
    # A tie that is rounded the other way moves the gain of a group in 2 bits a lot, and its error not at all; one
    # bit rounds whole groups to nothing.
    away = np.where((ratio > SUSPICIOUS) & (form.bits > 1), np.nan_to_num(away, nan=np.inf), 1.0)
    return GroupErrors(
        ratio.size,
        view.worst(ratio, gains),
        view.worst_weight(over, gains),
        view.worst(away, gains),
        view.worst(np.nan_to_num(shift, nan=np.inf), gains),
    )


def _nested(form: WeightFormat, theirs: FloatArray) -> FloatArray:
    """The largest scale that was rounded together with that of each weight, over it: `[outputs, inputs]`."""
    lined_up = in_groups(form, theirs)
    size = form.group_of(lined_up.shape[1])
    own, most = (
        np.maximum(-low, high) for low, high in (extremes(lined_up, n, None, None) for n in (size, 256 * size))
    )
    # The mean of all is subtracted first, so that small scales are as large as that.
    return (np.maximum(most, own.mean()) / np.maximum(own, LEAST_SCALE)).reshape(theirs.shape)


def _nearest(rounded: list[HonestWeights], own: FloatArray) -> HonestWeights:
    """The convention that most of the weights follow: a few that do not cannot decide it."""

    def distance(item: HonestWeights) -> float:
        far = np.nan_to_num(np.abs(own - item.values), nan=np.inf)
        return float(np.minimum(far, item.steps).sum(dtype=np.float64))

    return min(rounded, key=distance) if len(rounded) > 1 else rounded[0]


def _gains(view: _View, own: FloatArray, theirs: FloatArray, rounded: HonestWeights) -> FloatArray:
    """The factor on the weights of each group that fits best, in the least squares.

    Of the weights after rounding, which an exact library has to the last bit; where weights are fitted or tuned, of
    those before it if that is nearer to 1.
    """
    found = []
    for base in (rounded.values, theirs):
        power = view.sums(base**2)
        found.append(np.where(power > 0, view.sums(own * base) / np.where(power > 0, power, 1), 1))
    after, before = found
    loose = view.form.calibrated or view.form.codes == "fitted"
    return np.where(np.abs(before - 1) < np.abs(after - 1), before, after) if loose else after


@dataclass(frozen=True, eq=False)
class _View:
    """Some rows of a matrix, cut into stretches that lie within a group."""

    form: WeightFormat
    rows: IntArray
    inputs: int
    order: IntArray | None

    @property
    def starts(self) -> IntArray:
        """Where stretches begin, along a row or, of a flattened format, along all of them."""
        length = len(self.rows) * self.inputs if self.form.flattened else self.inputs
        size = min(self.form.group_of(length), length)
        groups = np.arange(0, length, size)[:, None]
        inner = (groups + np.arange(0, size, LONGEST)[None]).ravel()
        return inner[inner < length]

    def sums(self, values: FloatArray) -> FloatArray:
        """Of each stretch: `[rows, stretches]`."""
        return np.add.reduceat(self._lined_up(values), self.starts, axis=1)

    def spread(self, reduce: np.ufunc, values: FloatArray) -> FloatArray:
        """The extreme of each stretch, at every weight that is in it: `[outputs, inputs]`."""
        lined = self._lined_up(values)
        sizes = np.diff(np.append(self.starts, lined.shape[1]))
        spread = np.repeat(reduce.reduceat(lined, self.starts, axis=1), sizes, axis=1)
        if self.order is not None:
            back = np.empty_like(spread)
            back[:, self.order] = spread
            spread = back
        return spread.reshape(values.shape)

    def worst(self, values: FloatArray, gains: FloatArray) -> Worst:
        """The largest figure of a stretch."""
        row, stretch = np.unravel_index(int(np.argmax(values)), values.shape)
        start = int(self.starts[stretch])
        ends = np.append(self.starts[1:], len(self.rows) * self.inputs if self.form.flattened else self.inputs)
        return Worst(
            float(values[row, stretch]),
            self._place(int(row), start, int(ends[stretch]) - 1),
            float(gains[row, stretch]),
        )

    def worst_weight(self, values: FloatArray, gains: FloatArray) -> Worst:
        """The largest figure of a weight."""
        lined = self._lined_up(values)
        row, place = np.unravel_index(int(np.argmax(lined)), lined.shape)
        stretch = int(np.searchsorted(self.starts, place, side="right")) - 1
        return Worst(
            float(lined[row, place]), self._place(int(row), int(place), int(place)), float(gains[row, stretch])
        )

    def _lined_up(self, values: FloatArray) -> FloatArray:
        values = in_groups(self.form, values)
        return values if self.order is None else values[:, self.order]

    def _place(self, row: int, first: int, last: int) -> str:
        if self.form.flattened:
            (row, first), (end, last) = divmod(first, self.inputs), divmod(last, self.inputs)
            if end != row:
                return f"row {self.rows[row]}, column {first} to row {self.rows[end]}, column {last}"
        if self.order is not None:
            return (
                f"row {self.rows[row]}, columns {', '.join(str(item) for item in self.order[first : last + 1][:4])}"
                + (
                    ", ..." if last - first > 3 else ""  # noqa: PLR2004 - as printed
                )
            )
        return f"row {self.rows[row]}, column{f's {first} to {last}' if last > first else f' {first}'}"
