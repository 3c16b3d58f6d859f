"""The same sums in another order, in bfloat16, where that is a thousand times louder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["PermutedBfloat16"]


@dataclass(frozen=True)
class PermutedBfloat16(OnPermutedCopy):
    """Neurons and residual channels in another order."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "BN03 unslothai/unsloth#9708 (the benign half)"
    dtype: ClassVar[str] = "bfloat16"
