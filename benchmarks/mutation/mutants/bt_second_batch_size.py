"""Rotary angles are kept by length only; a later call with another batch size takes the first row's for all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import reposition
from mutation import Mutant

__all__ = ["SecondBatchSize"]


@dataclass(frozen=True)
class SecondBatchSize(Mutant):
    """The first batch size is right, whatever it is."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "CG03 vllm-project/vllm#25093 (the key lacks the batch size)"
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("second_call", "other_batch_size", "padding")

    def change(self, model: Any) -> None:
        """Only for passes of several tokens."""
        first: list[int] = []

        def wrong(positions: Any, _past: int, arguments: dict[str, Any]) -> Any:
            rows = arguments["input_ids"].shape[0] if arguments.get("input_ids") is not None else len(positions)
            if rows > 1 and positions.shape[-1] > 1:
                first[:] = first or [rows]
                if rows != first[0] and len(positions) == rows:
                    return positions[:1].expand_as(positions)
            return positions

        reposition(model, wrong)
