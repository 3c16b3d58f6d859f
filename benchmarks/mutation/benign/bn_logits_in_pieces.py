"""The head is applied to one piece of the vocabulary after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy

__all__ = ["LogitsInPieces"]


@dataclass(frozen=True)
class LogitsInPieces(OnPermutedCopy):
    """Narrower products, joined afterwards."""

    category: ClassVar[str] = "weight_quantization"
    source: ClassVar[str] = "BN11 huggingface/transformers#31143 (another kernel for one product)"
    models: ClassVar = ("tiny-gemma",)

    def change(self, model: Any) -> None:
        """In seven pieces."""
        import torch

        head = model.lm_head

        def forward(x: Any) -> Any:
            return torch.cat([torch.nn.functional.linear(x, piece) for piece in head.weight.chunk(7)], dim=-1)

        head.forward = forward
