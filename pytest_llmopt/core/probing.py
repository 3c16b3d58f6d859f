"""How to see what one projection of a loaded model computes, whatever library holds its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class AffineMap:
    """What a projection does to its inputs, for some of its outputs: `inputs @ weight.T + bias`."""

    weight: FloatArray
    """`[outputs, inputs]`."""
    bias: FloatArray
    """`[outputs]`, of zeros where it has none."""


@dataclass(frozen=True, eq=False)
class StoredMap(AffineMap):
    """The same from plain weights as they are stored, with the range of the whole tensor."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class ProjectionShape:
    """The size of a projection, and how its inputs lie."""

    outputs: int
    inputs: int
    order: IntArray | None = None
    """Its inputs in the order in which they share scales, or None where they do so as they stand: `[inputs]`."""

    @property
    def size(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.outputs, self.inputs
