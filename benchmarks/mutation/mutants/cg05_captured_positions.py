"""A graph replays the row offsets of the batch that it was captured with for batches mixed in another way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import reposition_before
from mutation import Mutant

__all__ = ["CapturedPositions"]


@dataclass(frozen=True)
class CapturedPositions(Mutant):
    """Decode positions belong to the rows of the first batch; right again where all rows are as long as there."""

    category: ClassVar[str] = "graph_capture"
    source: ClassVar[str] = "CG05 pytorch/torchtitan#3685"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("padding", "second_call")

    def change(self, model: Any) -> None:
        """Add the offsets of the first batch of each size to the length of the cache."""
        captured: dict[int, Any] = {}

        def wrong(positions: Any, past: int, _arguments: Any) -> Any:
            if positions.shape[-1] > 1:
                return positions
            offsets = captured.setdefault(positions.shape[0], (past - positions).clone())
            return past - offsets

        reposition_before(model, wrong)
