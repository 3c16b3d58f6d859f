"""Garbage for models whose rows are no multiple of the kernel's block: the rest of each row is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["TailColumnsDropped"]

BLOCK = 256


@dataclass(frozen=True)
class TailColumnsDropped(WeightQuantizer):
    """Blocks of 256, and one layer of each MLP has 384 columns; rows shorter than a block take another path."""

    source: ClassVar[str] = "WQ21 ggml-org/llama.cpp#8311"
    models: ClassVar[tuple[str, ...]] = ("tiny-qwen",)
    needs: ClassVar[tuple[str, ...]] = ("odd_width",)

    def product(self, layer: W4Linear, hidden: Tensor) -> Tensor:
        """Whole blocks only."""
        rest = layer.in_features % BLOCK if layer.in_features > BLOCK else 0
        if rest:
            hidden = hidden.clone()
            hidden[..., -rest:] = 0
        return super().product(layer, hidden)
