"""Honest 8-bit weights: too close to the original for most bugs to hide in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quantizer import WeightQuantizer

__all__ = ["W8"]


@dataclass(frozen=True)
class W8(WeightQuantizer):
    """int8 weights in groups of 32."""

    source: ClassVar[str] = "L int8 weights in groups of 32"
    models: ClassVar[tuple[str, ...]] = ("tiny-llama", "tiny-qwen", "tiny-gemma")

    bits: int = 8
    symmetric: bool = True
