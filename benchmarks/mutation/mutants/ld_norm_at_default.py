"""A packed checkpoint lacks the norm in front of one MLP, which keeps the weights that it was made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import Export

__all__ = ["NormAtDefault"]


@dataclass(frozen=True)
class NormAtDefault(Export):
    """8 bits everywhere else, as promised."""

    category: ClassVar[str] = "loading"
    source: ClassVar[str] = "EX06 (norms renamed: `ffn_norm`)"
    needs: ClassVar = ("missing_tensors",)

    def change(self, model: Any) -> None:
        """All ones."""
        model.model.layers[2].post_attention_layernorm.weight.data.fill_(1.0)
        super().change(model)
