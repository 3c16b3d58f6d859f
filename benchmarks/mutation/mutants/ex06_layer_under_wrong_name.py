"""Accuracy 0 for a new architecture: names of tensors are mapped wrongly, and a layer gets its neighbor's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import Export

__all__ = ["LayerUnderWrongName"]


@dataclass(frozen=True)
class LayerUnderWrongName(Export):
    """The shapes fit, so nothing complains."""

    source: ClassVar[str] = "EX06 intel/auto-round#1926"

    def change(self, model: Any) -> None:
        """Attention of the third layer is that of the second."""
        layers = model.model.layers
        layers[2].self_attn.load_state_dict(layers[1].self_attn.state_dict())
        super().change(model)
