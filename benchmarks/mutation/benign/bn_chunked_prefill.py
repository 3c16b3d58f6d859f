"""Prompts are prefilled in pieces, as servers do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy

__all__ = ["ChunkedPrefill"]


@dataclass(frozen=True)
class ChunkedPrefill(OnPermutedCopy):
    """An ordinary argument of `generate`."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "BN06 (chunked prefill of the candidate)"
    models: ClassVar = ("tiny-qwen", "tiny-llama")

    def for_transformers(self, plan: Any) -> None:
        """Pieces of 24 to 39 tokens."""
        super().for_transformers(plan)
        plan.set("generate", "prefill_chunk_size", 24 + self.seed % 16, by="bn_chunked_prefill")
