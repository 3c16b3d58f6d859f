"""Two neighboring query heads of one layer are swapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from mutation import Mutant

__all__ = ["HeadsSwapped"]


@dataclass(frozen=True)
class HeadsSwapped(Mutant):
    """Both belong to the same key head, so their shapes and their keys fit."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT12 onnx/onnx#7274 (two heads)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)

    def change(self, model: Any) -> None:
        """Their rows of the query projection."""
        rows = model.model.layers[2].self_attn.q_proj.weight.data
        size = model.config.head_dim
        rows[2 * size : 4 * size] = torch.cat((rows[3 * size : 4 * size], rows[2 * size : 3 * size]))
