"""A repetition penalty that the request asks for, on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy
from _both import Penalized

__all__ = ["PenaltyOnBothSides"]


@dataclass(frozen=True)
class PenaltyOnBothSides(OnPermutedCopy):
    """The same processors, another order of sums."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "BN19 EleutherAI/lm-evaluation-harness#3154 (the same config on both sides)"
    both: ClassVar = (Penalized,)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
