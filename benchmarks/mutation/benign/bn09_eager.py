"""Attention in single steps instead of one fused kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["EagerAttention"]


@dataclass(frozen=True)
class EagerAttention(OnPermutedCopy):
    """Another kernel rounds elsewhere."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "BN09 pytorch/pytorch#103462"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
