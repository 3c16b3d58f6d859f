"""Garbage from models with a bias: the switch that says that there is one is added instead of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["BiasIsTrue"]


@dataclass(frozen=True)
class BiasIsTrue(WeightQuantizer):
    """`True` is a number, and so every output is one too large."""

    source: ClassVar[str] = "WQ12 huggingface/text-generation-inference#2117"
    models: ClassVar[tuple[str, ...]] = ("tiny-qwen",)
    needs: ClassVar[tuple[str, ...]] = ("bias",)

    def forward(self, layer: W4Linear, hidden: Tensor) -> Tensor:
        """The output and the switch."""
        return self.product(layer, hidden) + (layer.bias is not None)
