"""Weights that were rescaled before they were rounded: which factors, so that the rounding alone can be judged.

AWQ and SmoothQuant multiply the inputs of a projection by one factor each, and divide what comes in front: a norm, or
the outputs of another projection. A factor of an input is the same in all rows, so it is found from all of them, and
one bad group cannot hide in it. A factor of an output is accepted only where another projection of the layer undoes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.probing import StoredMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.logprobs import FloatArray, IntArray
    from pytest_llmopt.core.probing import AffineMap

LAYER = re.compile(r".*?\.\d+\.")
AGREE = 0.15
"""Natural logarithm: how far the median output's factor may be from undoing that of an input, and from 1."""
SAME_MATRIX = 0.5
"""Cosine of the angle between a matrix and what is left of it; rotated weights have about 0."""


@dataclass(frozen=True, eq=False)
class Factors:
    """How one projection was rescaled."""

    inputs: FloatArray
    """`[inputs]`."""
    outputs: FloatArray
    """Of the outputs that were read, by the weights alone: `[outputs]`."""
    cosine: float
    """Of the angle between the two matrices, factors undone."""


def factors(stored: StoredMap, effective: AffineMap) -> Factors:
    """The factors on inputs and outputs that fit best, in the least squares."""
    own, theirs = effective.weight.astype(np.float64), stored.weight.astype(np.float64)
    inputs = _fit(own, theirs, axis=0)
    scaled = theirs * inputs
    outputs = _fit(own, scaled, axis=1)
    scaled *= outputs[:, None]
    lengths = np.linalg.norm(own) * np.linalg.norm(scaled)
    return Factors(inputs, outputs, float((own * scaled).sum() / lengths) if lengths else 0.0)


def rescaled(name: str, stored: StoredMap, rows: IntArray, found: Mapping[str, Factors]) -> StoredMap:
    """The reference's weights with the factors of a projection.

    Args:
        name: of the projection.
        stored: some of its outputs.
        rows: the numbers of these.
        found: the factors of all projections.
    """
    own = found[name]
    outputs = _undone(name, own, rows, found)
    weight = (stored.weight * own.inputs * outputs[:, None]).astype(np.float32)
    return StoredMap(weight, (stored.bias * outputs).astype(np.float32), float(weight.min()), float(weight.max()))


def _fit(own: FloatArray, theirs: FloatArray, *, axis: int) -> FloatArray:
    power = np.square(theirs).sum(axis=axis)
    return np.where(power > 0, (own * theirs).sum(axis=axis) / np.where(power > 0, power, 1), 1)


def _undone(name: str, own: Factors, rows: IntArray, found: Mapping[str, Factors]) -> FloatArray:
    """What another projection of the layer multiplies its inputs by, inverted, where outputs were given that."""
    layer = LAYER.match(name)
    mates = [item for other, item in found.items() if other != name and layer and other.startswith(layer[0])]
    best: FloatArray = np.ones(len(rows))
    least = _distance(own.outputs, best)
    for mate in mates:
        if len(mate.inputs) <= rows.max() or not (mate.inputs > 0).all():
            continue
        inverse = 1 / mate.inputs[rows]
        # The factors of its own inputs hold the mean of those of its outputs.
        inverse *= float(np.median(own.outputs / inverse))
        if (distance := _distance(own.outputs, inverse)) < min(least, AGREE):
            best, least = inverse, distance
    return best


def _distance(one: FloatArray, other: FloatArray) -> float:
    return float(np.median(np.abs(np.log(np.maximum(one, 1e-6) / other))))
