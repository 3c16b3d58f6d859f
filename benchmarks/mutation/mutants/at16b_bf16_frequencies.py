"""The rotary frequencies were rounded to bfloat16 when the whole model was cast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["Bf16Frequencies"]


@dataclass(frozen=True)
class Bf16Frequencies(Mutant):
    """Angles are wrong by up to a four-hundredth, so by more radians the later the position."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT16 huggingface/transformers#25681"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("long_prompt",)

    def change(self, model: Any) -> None:
        """Round the frequencies once."""
        rotary = model.model.rotary_emb
        rotary.inv_freq = rotary.inv_freq.bfloat16().float()
