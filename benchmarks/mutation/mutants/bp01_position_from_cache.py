"""Prefill takes positions from the mask, decode steps from the index into the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import reposition
from mutation import Mutant

__all__ = ["PositionFromCache"]


@dataclass(frozen=True)
class PositionFromCache(Mutant):
    """Padded rows jump ahead by their padding when decoding starts; the longest row is right."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "BP01 unslothai/unsloth#3795"
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("padding",)

    def change(self, model: Any) -> None:
        """Decode every row at the position of the longest."""

        def wrong(positions: Any, past: int, _arguments: Any) -> Any:
            return positions.new_full(positions.shape, past) if positions.shape[-1] == 1 else positions

        reposition(model, wrong)
