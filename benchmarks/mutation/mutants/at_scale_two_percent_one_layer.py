"""The softmax scale of one layer is two percent too small, in a model whose scores are capped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["ScaleTwoPercentOneLayer"]


@dataclass(frozen=True)
class ScaleTwoPercentOneLayer(Mutant):
    """A rounded constant in one kernel configuration."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "scale bugzoo section M (one layer)"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-gemma",)

    def change(self, model: Any) -> None:
        """In the second layer."""
        model.model.layers[1].self_attn.scaling *= 0.98
