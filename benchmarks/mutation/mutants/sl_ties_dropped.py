"""Of tokens that tie with the k-th, the filter keeps only those that a sort happens to put first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from _speculation import replaced, while_generating
from mutation import Mutant

__all__ = ["TiesDropped"]


@dataclass(frozen=True)
class TiesDropped(Mutant):
    """In bfloat16 such ties are common; the library keeps them all."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "BN13 vllm-project/vllm#5404 (ties at the edge of top-k)"
    models: ClassVar = ("tiny-llama",)
    dtype: ClassVar[str] = "bfloat16"
    needs: ClassVar = ("sampling", "top_k", "ties")

    def change(self, model: Any) -> None:
        """Keep k tokens, no more."""
        from transformers.generation.logits_process import TopKLogitsWarper

        def call(warper: Any, _ids: Any, scores: Any) -> Any:
            kept = scores.topk(min(warper.top_k, scores.shape[-1]), dim=-1)
            return torch.full_like(scores, warper.filter_value).scatter(-1, kept.indices, kept.values)

        while_generating(model, lambda _kwargs: replaced(TopKLogitsWarper, "__call__", call))
