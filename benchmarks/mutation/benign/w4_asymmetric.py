"""Honest 4-bit weights with zero points: what bugs in packing and scales are measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quantizer import WeightQuantizer

__all__ = ["W4Asymmetric"]


@dataclass(frozen=True)
class W4Asymmetric(WeightQuantizer):
    """int4 weights in groups of 32, asymmetric."""

    source: ClassVar[str] = "L int4 weights in groups of 32, asymmetric"
    models: ClassVar[tuple[str, ...]] = ("tiny-llama", "tiny-qwen", "tiny-gemma")
