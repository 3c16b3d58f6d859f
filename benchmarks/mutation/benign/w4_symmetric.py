"""Honest 4-bit weights around a zero point in the middle, which no checkpoint has to hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quantizer import WeightQuantizer

__all__ = ["W4Symmetric"]


@dataclass(frozen=True)
class W4Symmetric(WeightQuantizer):
    """int4 weights in groups of 32, symmetric."""

    source: ClassVar[str] = "L int4 weights in groups of 32, symmetric"
    models: ClassVar[tuple[str, ...]] = ("tiny-llama", "tiny-qwen", "tiny-gemma")

    symmetric: bool = True
