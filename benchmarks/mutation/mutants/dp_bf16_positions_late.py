"""Decode steps hold positions in bfloat16, which tells only every second one from 256 on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import reposition
from mutation import Mutant

__all__ = ["Bf16PositionsLate"]


@dataclass(frozen=True)
class Bf16PositionsLate(Mutant):
    """Prefill is right at every length, decode at short ones."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT16 huggingface/transformers#29285 (in decode steps only)"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 1024}),)
    models: ClassVar = ("tiny-qwen",)
    dtype: ClassVar[str] = "bfloat16"
    needs: ClassVar = ("position 256", "decode")

    def change(self, model: Any) -> None:
        """Round them."""

        def wrong(positions: Any, _past: int, _arguments: Any) -> Any:
            return positions.bfloat16().long() if positions.shape[-1] == 1 else positions

        reposition(model, wrong)
