"""A tied head is written out and loaded as a matrix of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from quantizer import WeightQuantizer

__all__ = ["HeadStoredTwice"]


@dataclass(frozen=True)
class HeadStoredTwice(WeightQuantizer):
    """The same function; the largest matrix of a small model is there twice."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "WQ17 huggingface/transformers#44358 (tie_word_embeddings lost in the packed config)"
    needs: ClassVar = ("tied_head",)

    def change(self, model: Any) -> None:
        """A copy."""
        super().change(model)
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
