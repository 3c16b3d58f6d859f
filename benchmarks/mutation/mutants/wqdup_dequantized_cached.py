"""Right answers, and the memory is back after the first token: dequantized weights are kept for the next call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["DequantizedCached"]


@dataclass(frozen=True)
class DequantizedCached(WeightQuantizer):
    """A plain attribute, neither parameter nor buffer, remembers what a slow kernel computed."""

    source: ClassVar[str] = "WQ-dup, dequantized weights stay referenced; compare PF04 vllm-project/vllm#21376"
    needs: ClassVar[tuple[str, ...]] = ("memory",)

    def dequantize(self, layer: W4Linear) -> Tensor:
        """Once, then from memory."""
        if not hasattr(layer, "dequantized"):
            layer.dequantized = super().dequantize(layer)
        return layer.dequantized
