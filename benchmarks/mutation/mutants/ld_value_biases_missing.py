"""The biases of the value projections are not in the packed checkpoint, and are zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import Export

__all__ = ["ValueBiasesMissing"]


@dataclass(frozen=True)
class ValueBiasesMissing(Export):
    """Query and key biases are there."""

    category: ClassVar[str] = "loading"
    source: ClassVar[str] = "EX05 microsoft/onnxruntime-mobius#396 (bias flags, of one projection)"
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("bias",)

    def change(self, model: Any) -> None:
        """Of the last two layers."""
        for layer in model.model.layers[2:]:
            layer.self_attn.v_proj.bias.data.zero_()
        super().change(model)
