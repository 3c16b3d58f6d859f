"""Every prompt is decoded alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy

__all__ = ["BatchOfOne"]


@dataclass(frozen=True)
class BatchOfOne(OnPermutedCopy):
    """Other shapes of every matrix product, and no padding at all."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "BN02 huggingface/transformers#25921"

    def for_transformers(self, plan: Any) -> None:
        """Ask for batches of 1."""
        super().for_transformers(plan)
        plan.max_batch = 1
