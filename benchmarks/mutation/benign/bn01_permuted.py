"""The same sums in another order, in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["PermutedFloat32"]


@dataclass(frozen=True)
class PermutedFloat32(OnPermutedCopy):
    """Neurons and residual channels in another order."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "BN01 huggingface/transformers#25420 (other shapes, other rounding)"
