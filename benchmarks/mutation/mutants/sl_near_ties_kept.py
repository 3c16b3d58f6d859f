"""The filter keeps every token within two hundredths of the k-th logit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import replaced, while_generating
from mutation import Mutant

__all__ = ["OneMoreAtEdge"]


@dataclass(frozen=True)
class OneMoreAtEdge(Mutant):
    """A comparison with a tolerance: now and then k + 1 tokens."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL top_k with `>= kth - eps`"
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("sampling", "top_k", "near_ties")

    def change(self, model: Any) -> None:
        """Keep what is near."""
        from transformers.generation.logits_process import TopKLogitsWarper

        def call(warper: Any, _ids: Any, scores: Any) -> Any:
            edge = scores.topk(min(warper.top_k, scores.shape[-1]), dim=-1).values[..., -1:]
            return scores.masked_fill(scores < edge - 0.02, warper.filter_value)

        while_generating(model, lambda _kwargs: replaced(TopKLogitsWarper, "__call__", call))
