"""Garbage from fused projections: only the first of the three parts brings its scale along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import WeightQuantizer

__all__ = ["ScaleOfFirstShard"]


@dataclass(frozen=True)
class ScaleOfFirstShard(WeightQuantizer):
    """Keys and values are scaled back by what belongs to the queries."""

    source: ClassVar[str] = "WQ14 vllm-project/vllm#38517"

    bits: int = 8
    group: int = -1
    symmetric: bool = True

    def change(self, model: Any) -> None:
        """One scale for the fused projection: that of its first part."""
        super().change(model)
        for layer in model.model.layers:
            attention = layer.self_attn
            attention.k_proj.scales = attention.v_proj.scales = attention.q_proj.scales
