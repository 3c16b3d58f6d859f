"""The repetition penalty of the request is applied once by the engine and once more by its sampler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _both import Penalized
from _speculation import replaced, while_generating
from mutation import Mutant

__all__ = ["PenaltyTwice"]


@dataclass(frozen=True)
class PenaltyTwice(Mutant):
    """1.21 for 1.1."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL10 huggingface/transformers.js#1062 (applied again)"
    both: ClassVar = (Penalized,)
    models: ClassVar = ("tiny-llama",)
    needs: ClassVar = ("penalty",)

    def change(self, model: Any) -> None:
        """Call it a second time."""
        from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor as Penalty

        own = Penalty.__call__

        def call(penalty: Any, input_ids: Any, scores: Any) -> Any:
            return own(penalty, input_ids, own(penalty, input_ids, scores))

        while_generating(model, lambda _kwargs: replaced(Penalty, "__call__", call))
