"""The activation is the exact GELU, where the model was trained with the tanh approximation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from mutation import Mutant

__all__ = ["GeluExact"]


@dataclass(frozen=True)
class GeluExact(Mutant):
    """A fused MLP with one of the two."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AC gelu and gelu_pytorch_tanh taken for one"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    models: ClassVar = ("tiny-gemma",)

    def change(self, model: Any) -> None:
        """In every MLP."""
        for layer in model.model.layers:
            layer.mlp.act_fn = torch.nn.GELU()
