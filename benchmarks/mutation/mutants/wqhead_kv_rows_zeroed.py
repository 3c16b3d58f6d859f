"""A little worse everywhere: one head of keys in one layer has lost its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import WeightQuantizer

__all__ = ["KeyRowsZeroed"]


@dataclass(frozen=True)
class KeyRowsZeroed(WeightQuantizer):
    """A shard that is not written leaves zeros, and the other heads make up for much of it."""

    source: ClassVar[str] = "WQhead table M, rows of one key head zeroed in one layer"

    def change(self, model: Any) -> None:
        """Take the scales of a quarter of the layer's heads away."""
        super().change(model)
        keys = model.model.layers[1].self_attn.k_proj
        keys.scales[: model.config.head_dim] = 0
