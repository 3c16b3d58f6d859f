"""The repetition penalty looks at the prompt only, not at what was generated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _both import Penalized
from _speculation import replaced
from mutation import Mutant

__all__ = ["PenaltyOfPromptOnly"]


@dataclass(frozen=True)
class PenaltyOfPromptOnly(Mutant):
    """What the answer itself repeats is not penalized."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL03 sgl-project/sglang#28179 (output tokens never registered)"
    both: ClassVar = (Penalized,)
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("penalty",)

    def change(self, model: Any) -> None:
        """Remember how long the prompt is."""
        from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor as Penalty

        own, width = Penalty.__call__, [0]
        generate = model.generate

        def call(penalty: Any, input_ids: Any, scores: Any) -> Any:
            return own(penalty, input_ids[:, : width[0]], scores)

        def generated(input_ids: Any, **kwargs: Any) -> Any:
            width[0] = input_ids.shape[1]
            with replaced(Penalty, "__call__", call):
                return generate(input_ids, **kwargs)

        model.generate = generated
