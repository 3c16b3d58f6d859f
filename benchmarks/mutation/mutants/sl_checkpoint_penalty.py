"""The repetition penalty that the checkpoint suggests is applied although the request names none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["CheckpointPenalty"]


@dataclass(frozen=True)
class CheckpointPenalty(Mutant):
    """Two back ends disagree, greedily too; each is right by its own defaults."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "BN19 EleutherAI/lm-evaluation-harness#3154"

    def for_transformers(self, plan: Any) -> None:
        """As a keyword of every call, which a checkpoint's generation config amounts to."""
        plan.set("generate", "repetition_penalty", 1.05, by="sl_checkpoint_penalty")
