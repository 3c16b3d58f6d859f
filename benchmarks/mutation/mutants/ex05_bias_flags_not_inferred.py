"""Garbage though every dequantized weight is exact: the graph has no place for biases, and rows change places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from quantizer import Export

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["BiasFlagsNotInferred"]


@dataclass(frozen=True)
class BiasFlagsNotInferred(Export):
    """Qwen's queries and keys have biases and were never permuted; the builder knows neither."""

    source: ClassVar[str] = "EX05 onnxruntime/mobius#396"
    models: ClassVar[tuple[str, ...]] = ("tiny-qwen",)
    needs: ClassVar[tuple[str, ...]] = ("bias",)

    def bias(self, layer: W4Linear) -> Tensor | None:  # noqa: ARG002
        """The graph was built without."""
        return None

    def change(self, model: Any) -> None:
        """Undo a permutation that was never done."""
        width = model.config.hidden_size // model.config.num_attention_heads
        for layer in model.model.layers:
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
                pairs = projection.weight.data.unflatten(0, (-1, width // 2, 2))
                projection.weight.data = pairs.transpose(1, 2).flatten(0, 2)
        super().change(model)
