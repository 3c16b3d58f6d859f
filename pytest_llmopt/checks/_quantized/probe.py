"""Inputs of our choice pushed through one projection of a side, by the name that `inspect` gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmopt.core.requests import DescribeProjection, MapProjection, ReadProjection, RunProjection

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import FloatArray, IntArray
    from pytest_llmopt.core.probing import AffineMap, ProjectionShape, StoredMap
    from pytest_llmopt.core.side import Side

NEEDED = (DescribeProjection, MapProjection, ReadProjection, RunProjection)
"""Requests without which a projection cannot be looked at."""


@dataclass(frozen=True)
class Probe:
    """Sugar over these requests."""

    side: Side

    def shape(self, projection: str) -> ProjectionShape:
        """Its size, and the order in which its inputs share scales."""
        return self.side.ask(DescribeProjection(projection))

    def stored(self, projection: str, outputs: IntArray) -> StoredMap | None:
        """Its plain weights as they are stored, or None where they are packed or there is none of that name."""
        return self.side.ask(ReadProjection(projection, outputs))

    def effective(self, projection: str, outputs: IntArray) -> AffineMap:
        """What it computes."""
        return self.side.ask(MapProjection(projection, outputs))

    def push(self, projection: str, inputs: FloatArray, outputs: IntArray | None = None) -> FloatArray:
        """What it gives for inputs: `[batch, tokens, inputs]` to `[batch, tokens, outputs]`."""
        return self.side.ask(RunProjection(projection, inputs, outputs))
