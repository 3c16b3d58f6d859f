"""Slightly worse, and differently after each load: a bias that the checkpoint does not have keeps random values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from quantizer import WeightQuantizer

__all__ = ["RandomBias"]


@dataclass(frozen=True)
class RandomBias(WeightQuantizer):
    """The quantized class always has a bias; what is missing in the file is initialized as for training."""

    source: ClassVar[str] = "WQ13 huggingface/optimum#1827"
    needs: ClassVar[tuple[str, ...]] = ("second_load",)

    def change(self, model: Any) -> None:
        """Give every layer a bias of its own."""
        names = [name for name, _ in self.modules(model)]
        super().change(model)
        for name in names:
            layer = model.get_submodule(name)
            layer.bias = 0.02 * torch.randn(layer.out_features)
