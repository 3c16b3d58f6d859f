"""Attention in one fused kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["FusedAttention"]


@dataclass(frozen=True)
class FusedAttention(OnPermutedCopy):
    """Another kernel rounds elsewhere."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "BN09 huggingface/transformers#36585"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-qwen",)
