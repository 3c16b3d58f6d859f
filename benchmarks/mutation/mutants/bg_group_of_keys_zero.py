"""One group of columns of one key projection has no scale, for the rows of one head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import WeightQuantizer

__all__ = ["GroupOfKeysZero"]


@dataclass(frozen=True)
class GroupOfKeysZero(WeightQuantizer):
    """The head still sees the other columns."""

    source: ClassVar[str] = "WQhead table M (one group of one head)"
    models: ClassVar = ("tiny-gemma",)

    symmetric: bool = True

    def change(self, model: Any) -> None:
        """Sixteen rows of the last group."""
        super().change(model)
        model.model.layers[2].self_attn.k_proj.scales[16:32, -1] = 0
