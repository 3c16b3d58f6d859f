"""Prompts are decoded with other batch mates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy

__all__ = ["BatchOfThree"]


@dataclass(frozen=True)
class BatchOfThree(OnPermutedCopy):
    """Other shapes of every matrix product, and other paddings."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "BN06 vllm-project/vllm#2008"

    def for_transformers(self, plan: Any) -> None:
        """Ask for batches of 3."""
        super().for_transformers(plan)
        plan.max_batch = 3
