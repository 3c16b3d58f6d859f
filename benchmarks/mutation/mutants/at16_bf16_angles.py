"""Position times frequency is computed in bfloat16, where 256 and 257 are the same number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["Bf16Angles"]


@dataclass(frozen=True)
class Bf16Angles(Mutant):
    """Slightly wrong at first, positions collide from 256 on."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT16 huggingface/transformers#29285"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("long_prompt",)

    def change(self, model: Any) -> None:
        """Compute angles in bfloat16."""
        import torch

        rotary = model.model.rotary_emb

        def forward(x: Any, position_ids: Any) -> Any:
            angles = position_ids[..., None].bfloat16() * rotary.inv_freq.bfloat16()
            angles = torch.cat((angles, angles), -1).float()
            return angles.cos().to(x.dtype), angles.sin().to(x.dtype)

        rotary.forward = forward
