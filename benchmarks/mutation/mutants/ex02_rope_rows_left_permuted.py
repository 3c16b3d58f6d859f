"""Queries and keys are wrong after GGUF is read back: the order of rows that its RoPE wants is not undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import Export

__all__ = ["RopeRowsLeftPermuted"]


@dataclass(frozen=True)
class RopeRowsLeftPermuted(Export):
    """Pairs stand side by side, but the model rotates halves."""

    source: ClassVar[str] = "EX02 huggingface/transformers#31766"

    def change(self, model: Any) -> None:
        """Interleave the halves of each head."""
        for layer in model.model.layers:
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
                heads = projection.weight.data.unflatten(0, (-1, 2, model.config.head_dim // 2))
                projection.weight.data = heads.transpose(1, 2).flatten(0, 2)
        super().change(model)
