"""One size of a family is garbage, another is fine: keys are permuted with a count of heads that fits the latter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import Export

__all__ = ["PermutedByWrongHeads"]


@dataclass(frozen=True)
class PermutedByWrongHeads(Export):
    """Heads are divided by KV heads, which is 8 both ways in the large model; here it is 4, and there are 2."""

    source: ClassVar[str] = "EX01 ggml-org/llama.cpp#3364"
    needs: ClassVar[tuple[str, ...]] = ("grouped_heads",)

    def change(self, model: Any) -> None:
        """Write keys in one order and read them in another."""
        heads, kv_heads = model.config.num_attention_heads, model.config.num_key_value_heads
        for layer in model.model.layers:
            rows = layer.self_attn.k_proj.weight.data
            written = rows.unflatten(0, (heads // kv_heads, 2, -1)).transpose(1, 2).flatten(0, 2)
            layer.self_attn.k_proj.weight.data = written.unflatten(0, (kv_heads, -1, 2)).transpose(1, 2).flatten(0, 2)
        super().change(model)
