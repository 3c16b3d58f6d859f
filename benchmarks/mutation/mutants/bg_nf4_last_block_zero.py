"""The last block of one matrix was never written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["Nf4LastBlockZero"]


@dataclass(frozen=True)
class Nf4LastBlockZero(Mutant):
    """A loop that ends one block early."""

    category: ClassVar[str] = "weight_quantization"
    source: ClassVar[str] = "WQ21 ggml-org/llama.cpp#8311 (last block)"
    base: ClassVar = (("quantization.bitsandbytes", {}),)
    models: ClassVar = ("tiny-qwen",)

    def change(self, model: Any) -> None:
        """Its scale is zero."""
        model.model.layers[3].self_attn.o_proj.weight.quant_state.absmax.view(-1)[-1] = 0
