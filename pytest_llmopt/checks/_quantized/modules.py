"""What single projections of a quantized model compute, measured against the reference's weights and the format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._quantized.groups import GroupErrors, group_errors
from pytest_llmopt.checks._quantized.honest import (
    HALF_STEP,
    Band,
    coarsest,
    in_groups,
    rounded_activations,
    rounded_to,
    sqnr_band,
)
from pytest_llmopt.checks._quantized.probe import Probe
from pytest_llmopt.checks._quantized.rescaled import SAME_MATRIX, Factors, factors, rescaled
from pytest_llmopt.statistics.fake_quantizers import sqnr_db

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.claims import Use
    from pytest_llmopt.core.logprobs import FloatArray, IntArray
    from pytest_llmopt.core.probing import AffineMap, StoredMap
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.weight_format import WeightFormat

WEIGHTS = 2**28
"""Read in all. Of a larger model some outputs of every projection are read, as many of each as fit."""
LEAST_OUTPUTS = 16
ROWS = 16
"""Random inputs to each projection, every other one smaller by `SMALL`."""
SMALL = 2.0**-6
KEPT_ROWS = 32
"""Inputs by which a projection that must stay is compared: one of them is 1, so that no sum is rounded."""


@dataclass(frozen=True)
class ProjectionErrors:
    """One projection of the candidate."""

    name: str
    sqnr_db: float
    """Of its effective weights against the reference's."""
    honest: Band
    bias_error: float
    """Root mean square of the difference to the reference's bias, by that of the bias."""
    excess_levels: int | None
    """Distinct weights that the fullest group has beyond 2^bits, or None where groups cannot be told."""
    activation_error: float | None
    """Power of the error that its activations add, over that of honest rounding (to int8 where none is promised).

    Arithmetic hides errors below a floor; this is the value nearest to the promise that it leaves possible, of large
    rows or of small ones. None of an expert, which does not run alone.
    """
    batch_dependence: float | None
    """How much a row changes without its batch mates, over what arithmetic may change; None where it may by design."""
    gain: float
    """The factor on the reference's weights that fits the effective ones best."""
    shift: float
    """Share of the error that is one constant for each group of a row, as a wrong zero point makes."""
    groups: GroupErrors
    """Its worst groups."""
    seen: float = 1.0
    """Share of its weights that were read."""

    @property
    def shortfall_db(self) -> float:
        """How far the weights are below the band, negative above its lower end."""
        return 0.0 if self.sqnr_db == self.honest.low else self.honest.low - self.sqnr_db

    @property
    def excess_db(self) -> float:
        """How far the weights are above the band, negative below its upper end."""
        return 0.0 if self.sqnr_db == self.honest.high else self.sqnr_db - self.honest.high


def measure(
    form: WeightFormat, own: Side, theirs: Side, use: Use, *, seed: int
) -> tuple[list[ProjectionErrors], list[str]]:
    """The projections that the format covers, and the names of those that should have stayed and did not."""
    candidate, reference = Probe(own), Probe(theirs)
    rng = np.random.default_rng(seed)
    names = {item.name for item in use.reference.projections}
    shared = [item for item in use.inspection.projections if item.name in names]
    kept = [item for item in shared if item.is_head or form.keeps(item.name)]
    # One that the reference does not have by this name may be an expert that lies in a stack there.
    covered = [item for item in use.inspection.projections if not item.is_head and not form.keeps(item.name)]
    share = min(1.0, WEIGHTS / max(1, sum(item.parameters for item in covered)))
    unit = coarsest(use.dtype, form.computes_in)
    samples = {item.name: _sample(form, candidate.shape(item.name).size, share, rng) for item in covered}
    fitted = _factors(samples, candidate, reference) if form.rescaled else {}
    found = []
    for item in covered if fitted or not form.rescaled else ():
        sample, shape = samples[item.name], candidate.shape(item.name)
        stored = reference.stored(item.name, sample)
        if stored is None or stored.weight.shape[1] != shape.inputs:
            continue
        if form.rescaled:
            stored = rescaled(item.name, stored, sample, fitted)
        effective = candidate.effective(item.name, sample)
        pushed = None if item.is_expert else _pushed(candidate, item.name, sample, rng)
        order = shape.order if form.act_order else None
        found.append(
            _measured(form, item.name, stored, effective, pushed, unit, sample, order, len(sample) / shape.outputs)
        )
    changed = [item.name for item in kept if _changed(item.name, candidate, reference, use.dtype, rng)]
    return found, changed


def _factors(samples: Mapping[str, IntArray], candidate: Probe, reference: Probe) -> dict[str, Factors]:
    """How projections were rescaled; nothing where most are not the reference's at all, as rotated ones are not."""
    found = {}
    for name, sample in samples.items():
        stored = reference.stored(name, sample)
        if stored is not None and stored.weight.shape[1] == candidate.shape(name).inputs:
            found[name] = factors(stored, candidate.effective(name, sample))
    cosines = [item.cosine for item in found.values()]
    return found if cosines and not float(np.median(cosines)) < SAME_MATRIX else {}


def _sample(form: WeightFormat, shape: tuple[int, int], share: float, rng: np.random.Generator) -> IntArray:
    """Numbers of outputs: all, or a share of them at random, in runs at whose ends groups of the format end too."""
    outputs, inputs = shape
    run = 1
    if form.flattened:
        size = form.group_of(inputs)
        run = size // math.gcd(size, inputs)
    runs = -(-outputs // run)
    chosen = np.sort(rng.permutation(runs)[: max(-(-LEAST_OUTPUTS // run), round(share * runs))])
    rows = (chosen[:, None] * run + np.arange(run)[None]).ravel()
    return rows[rows < outputs]


@dataclass(frozen=True, eq=False)
class PushedInputs:
    """Random rows and what a projection made of them."""

    rows: FloatArray
    """`[rows, inputs]`, large and small in turn."""
    together: FloatArray
    """`[rows, outputs]`, in one batch."""
    alone: FloatArray
    """`[2, outputs]`: the first large and the first small one, each in a batch of its own."""


def _pushed(candidate: Probe, name: str, sample: IntArray, rng: np.random.Generator) -> PushedInputs:
    rows = _inputs(candidate.shape(name).inputs, rng)
    together = candidate.push(name, rows[:, None], sample)[:, 0]
    alone = np.concatenate([candidate.push(name, row[None, None], sample)[0] for row in rows[:2]])
    return PushedInputs(rows, together, alone)


def _inputs(width: int, rng: np.random.Generator) -> FloatArray:
    """Normal rows that bfloat16 holds exactly, below 1 so that none is an outlier: `[ROWS, width]`."""
    rows = np.clip(rng.standard_normal((ROWS, width)) / 4, -1, 1)
    rows[1::2] *= SMALL
    return rounded_to("bfloat16", rows).astype(np.float32)


def _measured(
    form: WeightFormat,
    name: str,
    stored: StoredMap,
    effective: AffineMap,
    pushed: PushedInputs | None,
    unit: float,
    sample: IntArray,
    order: IntArray | None,
    seen: float,
) -> ProjectionErrors:
    error = effective.weight.astype(np.float64) - stored.weight
    power = float(np.square(stored.weight, dtype=np.float64).sum())
    gain = 1 + float((error * stored.weight).sum()) / power if power else 1.0
    lined_up = in_groups(form, error)
    starts = np.arange(0, lined_up.shape[1], form.group_of(lined_up.shape[1]))
    sizes = np.diff(np.append(starts, lined_up.shape[1]))
    constant = float((np.square(np.add.reduceat(lined_up, starts, axis=1)) / sizes).sum())
    total = float(np.square(error).sum())
    return ProjectionErrors(
        name,
        sqnr_db(stored.weight, effective.weight),
        sqnr_band(form, stored, unit),
        _relative(effective.bias - stored.bias, stored.bias),
        _excess_levels(form, in_groups(form, effective.weight), starts, sizes),
        None if pushed is None else _activation_error(form, effective, pushed, unit),
        None if pushed is None or form.depends_on_batch else _batch_dependence(pushed, effective.weight, unit),
        gain,
        constant / total if total else 0.0,
        group_errors(form, stored, effective, unit, sample, order),
        seen,
    )


def _relative(difference: FloatArray, values: FloatArray) -> float:
    size, base = (float(np.sqrt(np.square(item, dtype=np.float64).mean())) for item in (difference, values))
    return 0.0 if size == 0 else size / base if base else math.inf if size > 0 else math.nan


def _excess_levels(form: WeightFormat, weights: FloatArray, starts: IntArray, sizes: IntArray) -> int | None:
    if form.act_order or 2**form.bits >= sizes.max():
        return None
    # A row of the identity has one product to add, so equal codes give equal weights to the last bit.
    most = 0
    for start, size in zip(starts, sizes, strict=True):
        ascending = np.sort(weights[:, start : start + size], axis=1)
        most = max(most, int((np.diff(ascending, axis=1) != 0).sum(axis=1).max()) + 1)
    return max(0, most - 2**form.bits)


def _activation_error(form: WeightFormat, effective: AffineMap, pushed: PushedInputs, unit: float) -> float:
    rows, weight = pushed.rows.astype(np.float64), effective.weight.astype(np.float64).T
    exact, seen = rows @ weight, pushed.together - effective.bias
    # The 1 by which the weights were read may have been clipped by half a step, and so all of them.
    gain = float((seen * exact).sum() / np.square(exact).sum()) if exact.any() else 1.0
    error = seen - exact * np.clip(gain, 1 - HALF_STEP, 1 + HALF_STEP)
    rounded = rounded_activations(form.activations or "int8", rows, whole=form.depends_on_batch)
    honest = (rounded - rows) @ weight
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


def _batch_dependence(pushed: PushedInputs, weight: FloatArray, unit: float) -> float:
    """Sums of n terms in another order differ by sqrt(n) roundings (Higham and Mary, doi:10.1137/18M1226312).

    Of the size that the sums have when their terms do not cancel, as those of a single output may.
    """
    rows = np.square(pushed.rows[:2], dtype=np.float64)
    sizes = np.sqrt((rows @ np.square(weight, dtype=np.float64).T).mean(axis=1))
    allowed = math.sqrt(pushed.rows.shape[1]) * unit
    changes = [
        _relative(own - mated, np.maximum(size, np.abs(own).astype(np.float64)))
        for own, mated, size in zip(pushed.alone, pushed.together, sizes, strict=False)
    ]
    return max(changes) / allowed if not np.isnan(changes).any() else math.nan


def _changed(name: str, candidate: Probe, reference: Probe, dtype: str, rng: np.random.Generator) -> bool:
    """Whether outputs differ in a bit; some loaders turn the whole model to 16 bits, which is allowed for.

    Each output is one weight, so that a reference in more bits gives the same once it is rounded.
    """
    width = reference.shape(name).inputs
    if candidate.shape(name).size != reference.shape(name).size:
        return True
    rows = _one_hot(rng.permutation(width)[:KEPT_ROWS], width)
    return not np.array_equal(candidate.push(name, rows), rounded_to(dtype, reference.push(name, rows)))


def _one_hot(places: IntArray, width: int) -> FloatArray:
    rows = np.zeros((1, len(places), width), np.float32)
    rows[0, np.arange(len(places)), places] = 1
    return rows
