"""Wrong embeddings after conversion: scale and zero point land in attributes that nobody reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import WeightQuantizer

__all__ = ["EmbeddingScaleDefault"]


@dataclass(frozen=True)
class EmbeddingScaleDefault(WeightQuantizer):
    """Rows of 8-bit codes enter the model with a scale of 1."""

    source: ClassVar[str] = "WQ20 pytorch/ao#2024"
    models: ClassVar[tuple[str, ...]] = ("tiny-qwen",)
    needs: ClassVar[tuple[str, ...]] = ("untied_head",)

    def change(self, model: Any) -> None:
        """Replace the embedding by its codes."""
        super().change(model)
        embedding = model.get_input_embeddings().weight
        embedding.data = (embedding / (embedding.abs().amax(1, keepdim=True).clamp(min=1e-6) / 127)).round()
