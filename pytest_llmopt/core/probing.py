"""How to see what one projection of a loaded model computes, whatever library holds its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

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


@runtime_checkable
class Probes(Protocol):
    """An engine that can push inputs of our choice through one projection, by the name that `inspect` gives it."""

    def shape_of(self, projection: str) -> tuple[int, int]:
        """Its outputs and inputs."""
        ...

    def stored(self, projection: str, outputs: IntArray) -> StoredMap | None:
        """Its plain weights as they are stored, or None where they are packed, or where there is none of that name.

        An expert may lie apart in one engine and in a stack in another: `experts.3.up_proj` is found in the stack too.
        """
        ...

    def order_of(self, projection: str) -> IntArray | None:
        """Its inputs in the order in which they share scales, or None where they do so as they stand: `[inputs]`."""
        ...

    def effective(self, projection: str, outputs: IntArray) -> AffineMap:
        """What it computes: the bias from zeros, the weights from the rows of the identity matrix."""
        ...

    def push(self, projection: str, inputs: FloatArray, outputs: IntArray | None = None) -> FloatArray:
        """What it gives for inputs: `[batch, tokens, inputs]` to `[batch, tokens, outputs]`."""
        ...
