"""Other text after each load: after a refactoring nobody ties the head to the embedding, and it stays random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from quantizer import WeightQuantizer
from torch import nn

__all__ = ["HeadNotTied"]


@dataclass(frozen=True)
class HeadNotTied(WeightQuantizer):
    """The checkpoint has no weight of its own for a tied head."""

    source: ClassVar[str] = "WQ17 huggingface/transformers#44358"
    needs: ClassVar[tuple[str, ...]] = (
        "tied_head",
        "second_load",
    )

    def change(self, model: Any) -> None:
        """A head as it is before anything is loaded."""
        super().change(model)
        head = model.get_output_embeddings()
        head.weight = nn.Parameter(torch.randn_like(head.weight) * model.config.initializer_range)
