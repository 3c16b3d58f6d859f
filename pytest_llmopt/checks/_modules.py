"""What single projections of a quantized model compute, measured against the reference's weights and the format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._honest import HALF_STEP, Band, coarsest, rounded_activations, rounded_to, sqnr_band
from pytest_llmopt.statistics.fake_quantizers import sqnr_db

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.inspection import Projection, Use
    from pytest_llmopt.core.logprobs import FloatArray, IntArray
    from pytest_llmopt.core.probing import AffineMap, Probes, StoredMap
    from pytest_llmopt.core.weight_format import WeightFormat

WEIGHTS = 2**24
"""Read in all. A larger model is sampled: of each kind the first, a middle and the last layer, and some outputs."""
LEAST_OUTPUTS = 16
ROWS = 16
"""Random inputs to each projection, every other one smaller by `SMALL`."""
SMALL = 2.0**-6
KEPT_ROWS = 32
"""Inputs by which a projection that must stay is compared: one of them is 1, so that no sum is rounded."""


@dataclass(frozen=True)
class Measured:
    """One projection of the candidate."""

    name: str
    sqnr_db: float
    """Of its effective weights against the reference's."""
    honest: Band
    bias_error: float
    """Root mean square of the difference to the reference's bias, by that of the bias."""
    spare_levels: int | None
    """Distinct weights that the fullest group has beyond 2^bits, or None where groups cannot be told."""
    activation_error: float
    """Power of the error that its activations add, over that of honest rounding (to int8 where none is promised).

    Arithmetic hides errors below a floor; this is the value nearest to the promise that it leaves possible, of large
    rows or of small ones.
    """
    batch_dependence: float
    """How much a row changes without its batch mates, over what arithmetic may change."""
    gain: float
    """The factor on the reference's weights that fits the effective ones best."""
    shift: float
    """Share of the error that is one constant for each group of a row, as a wrong zero point makes."""

    @property
    def shortfall_db(self) -> float:
        """How far the weights are below the band, negative above its lower end."""
        return 0.0 if self.sqnr_db == self.honest.low else self.honest.low - self.sqnr_db

    @property
    def excess_db(self) -> float:
        """How far the weights are above the band, negative below its upper end."""
        return 0.0 if self.sqnr_db == self.honest.high else self.sqnr_db - self.honest.high


def measure(
    form: WeightFormat, candidate: Probes, reference: Probes, use: Use, *, seed: int
) -> tuple[list[Measured], list[str]]:
    """The projections that the format covers, and the names of those that should have stayed and did not."""
    rng = np.random.default_rng(seed)
    names = {item.name for item in use.reference.projections}
    shared = [item for item in use.inspection.projections if item.name in names]
    kept = [item for item in shared if item.is_head or _matches(form, item.name)]
    chosen = _chosen([item for item in shared if item not in kept], rng)
    inputs = sum(candidate.shape_of(item.name)[1] for item in chosen)
    most = max(LEAST_OUTPUTS, WEIGHTS // max(1, inputs))
    unit = coarsest(use.dtype, form.computes_in)
    found = []
    for item in chosen:
        outputs = candidate.shape_of(item.name)[0]
        sample = np.sort(rng.permutation(outputs)[:most])
        stored = reference.stored(item.name, sample)
        if stored is not None:
            effective = candidate.effective(item.name, sample)
            rows = _inputs(candidate.shape_of(item.name)[1], rng)
            given = candidate.push(item.name, rows[:, None], sample)[:, 0]
            alone = np.concatenate([candidate.push(item.name, row[None, None], sample)[0] for row in rows[:2]])
            found.append(_measured(form, item.name, stored, effective, Pushed(rows, given, alone), unit))
    changed = [item.name for item in kept if _changed(item.name, candidate, reference, use.dtype, rng)]
    return found, changed


@dataclass(frozen=True, eq=False)
class Pushed:
    """Random rows and what a projection made of them."""

    rows: FloatArray
    """`[rows, inputs]`, large and small in turn."""
    together: FloatArray
    """`[rows, outputs]`, in one batch."""
    alone: FloatArray
    """`[2, outputs]`: the first large and the first small one, each in a batch of its own."""


def _matches(form: WeightFormat, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in form.kept)


def _chosen(items: Sequence[Projection], rng: np.random.Generator) -> list[Projection]:
    """All of a small model; of a large one the first, a random middle one and the last of each kind."""
    if sum(item.parameters for item in items) <= WEIGHTS:
        return list(items)
    kinds: dict[str, list[Projection]] = {}
    for item in items:
        kinds.setdefault(item.name.rpartition(".")[2], []).append(item)
    chosen = []
    for members in kinds.values():
        places = {0, int(rng.integers(len(members))), len(members) - 1}
        chosen += [members[place] for place in sorted(places)]
    return chosen


def _inputs(width: int, rng: np.random.Generator) -> FloatArray:
    """Normal rows that bfloat16 holds exactly, below 1 so that none is an outlier: `[ROWS, width]`."""
    rows = np.clip(rng.standard_normal((ROWS, width)) / 4, -1, 1)
    rows[1::2] *= SMALL
    return rounded_to("bfloat16", rows).astype(np.float32)


def _measured(
    form: WeightFormat, name: str, stored: StoredMap, effective: AffineMap, pushed: Pushed, unit: float
) -> Measured:
    error = effective.weight.astype(np.float64) - stored.weight
    power = float(np.square(stored.weight, dtype=np.float64).sum())
    gain = 1 + float((error * stored.weight).sum()) / power if power else 1.0
    starts = np.arange(0, error.shape[1], form.group_of(error.shape[1]))
    sizes = np.diff(np.append(starts, error.shape[1]))
    constant = float((np.square(np.add.reduceat(error, starts, axis=1)) / sizes).sum())
    total = float(np.square(error).sum())
    return Measured(
        name,
        sqnr_db(stored.weight, effective.weight),
        sqnr_band(form, stored, unit),
        _relative(effective.bias - stored.bias, stored.bias),
        _spare_levels(form, effective.weight, starts, sizes),
        _activation_error(form, effective, pushed, unit),
        _batch_dependence(pushed, unit),
        gain,
        constant / total if total else 0.0,
    )


def _relative(difference: FloatArray, values: FloatArray) -> float:
    size, base = (float(np.sqrt(np.square(item, dtype=np.float64).mean())) for item in (difference, values))
    return 0.0 if size == 0 else size / base if base else math.inf if size > 0 else math.nan


def _spare_levels(form: WeightFormat, weights: FloatArray, starts: IntArray, sizes: IntArray) -> int | None:
    if form.act_order or 2**form.bits >= sizes.max():
        return None
    # A row of the identity has one product to add, so equal codes give equal weights to the last bit.
    most = 0
    for start, size in zip(starts, sizes, strict=True):
        ascending = np.sort(weights[:, start : start + size], axis=1)
        most = max(most, int((np.diff(ascending, axis=1) != 0).sum(axis=1).max()) + 1)
    return max(0, most - 2**form.bits)


def _activation_error(form: WeightFormat, effective: AffineMap, pushed: Pushed, unit: float) -> float:
    rows, weight = pushed.rows.astype(np.float64), effective.weight.astype(np.float64).T
    exact, seen = rows @ weight, pushed.together - effective.bias
    # The 1 by which the weights were read may have been clipped by half a step, and so all of them.
    gain = float((seen * exact).sum() / np.square(exact).sum()) if exact.any() else 1.0
    error = seen - exact * np.clip(gain, 1 - HALF_STEP, 1 + HALF_STEP)
    honest = (rounded_activations(form.activations or "int8", rows) - rows) @ weight
    # The output is rounded, with its bias once more; and the weights were read with a bias, each rounded twice.
    lengths = np.square(rows).sum(axis=1, keepdims=True)
    floor = unit**2 / 3 * (np.square(exact) + (2 + 2 * lengths) * np.square(effective.bias))
    promised = 0.0 if form.activations is None else 1.0
    nearest = []
    for chosen in (slice(0, None, 2), slice(1, None, 2)):
        made, allowed, yardstick = (float(item[chosen].sum()) for item in (error**2, floor, honest**2))
        if yardstick == 0:
            continue
        most, least = made / yardstick, max(0.0, made - allowed) / yardstick
        nearest.append(min(max(promised, least), most) if math.isfinite(made) else math.nan)
    return max(nearest, key=lambda value: _distance(value, promised), default=promised)


def _distance(value: float, promised: float) -> float:
    """From a promise, as a ratio where it is not 0; NaN is furthest."""
    if math.isnan(value):
        return math.inf
    return abs(math.log(max(value, 1e-30))) if promised else value


def _batch_dependence(pushed: Pushed, unit: float) -> float:
    """Sums of n terms in another order differ by sqrt(n) roundings (Higham and Mary, doi:10.1137/18M1226312)."""
    allowed = math.sqrt(pushed.rows.shape[1]) * unit
    changes = [_relative(own - mated, own) for own, mated in zip(pushed.alone, pushed.together, strict=False)]
    return max(changes) / allowed if not np.isnan(changes).any() else math.nan


def _changed(name: str, candidate: Probes, reference: Probes, dtype: str, rng: np.random.Generator) -> bool:
    """Whether outputs differ in a bit; some loaders turn the whole model to 16 bits, which is allowed for.

    Each output is one weight, so that a reference in more bits gives the same once it is rounded.
    """
    width = reference.shape_of(name)[1]
    if candidate.shape_of(name) != reference.shape_of(name):
        return True
    rows = _one_hot(rng.permutation(width)[:KEPT_ROWS], width)
    return not np.array_equal(candidate.push(name, rows), rounded_to(dtype, reference.push(name, rows)))


def _one_hot(places: IntArray, width: int) -> FloatArray:
    rows = np.zeros((1, len(places), width), np.float32)
    rows[0, np.arange(len(places)), places] = 1
    return rows
