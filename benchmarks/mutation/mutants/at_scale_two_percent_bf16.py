"""The softmax scale is two percent too large, in a model whose rounding is as large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["ScaleTwoPercentBf16"]


@dataclass(frozen=True)
class ScaleTwoPercentBf16(Mutant):
    """Hidden by the noise of 16 bits."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "scale bugzoo section M (bfloat16 with a small bug)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-qwen",)
    dtype: ClassVar[str] = "bfloat16"

    def change(self, model: Any) -> None:
        """In all layers."""
        for layer in model.model.layers:
            layer.self_attn.scaling *= 1.02
