"""Honest 4-bit weights whose groups are sorted by the size of the activations, as GPTQ checkpoints may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quantizer import WeightQuantizer

__all__ = ["W4ActOrder"]


@dataclass(frozen=True)
class W4ActOrder(WeightQuantizer):
    """int4 weights in groups of 32, act-order."""

    source: ClassVar[str] = "L int4 weights in groups of 32, act-order"
    models: ClassVar[tuple[str, ...]] = ("tiny-llama", "tiny-qwen", "tiny-gemma")

    act_order: bool = True
