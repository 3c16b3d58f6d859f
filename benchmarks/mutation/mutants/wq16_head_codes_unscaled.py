"""Token 0 forever, or repetition: the codes of a quantized head are used as if they were its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import WeightQuantizer

__all__ = ["HeadCodesUnscaled"]


@dataclass(frozen=True)
class HeadCodesUnscaled(WeightQuantizer):
    """The head of this recipe is quantized, but its layer type is not dispatched to the quantized kernel."""

    source: ClassVar[str] = "WQ16 vllm-project/vllm#37291"
    models: ClassVar[tuple[str, ...]] = ("tiny-qwen",)
    needs: ClassVar[tuple[str, ...]] = ("untied_head",)

    bits: int = 8
    group: int = 0
    symmetric: bool = True

    def change(self, model: Any) -> None:
        """Whole numbers for a head, each row without its scale."""
        super().change(model)
        head = model.get_output_embeddings().weight
        head.data = (head / (head.abs().amax(1, keepdim=True).clamp(min=1e-6) / 127)).round()
