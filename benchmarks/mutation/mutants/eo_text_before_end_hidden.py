"""A mask made for packed training text hides what stands before an end-of-sequence token in the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["TextBeforeEndHidden"]


@dataclass(frozen=True)
class TextBeforeEndHidden(Mutant):
    """The last turn of a chat does not know the turns before it."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "EO document masks at inference"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen", "tiny-gemma")
    needs: ClassVar = ("eos_in_prompt",)

    def change(self, model: Any) -> None:
        """Cut the mask of the prompt there, in prefill and in the steps after it."""
        end = model.config.eos_token_id
        own = model.generate

        def generate(input_ids: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
            if attention_mask is not None:
                attention_mask = attention_mask.clone()
                for row, tokens in enumerate(input_ids[:, :-1].tolist()):
                    if end in tokens and attention_mask[row, len(tokens) - 1 - tokens[::-1].index(end)]:
                        attention_mask[row, : len(tokens) - tokens[::-1].index(end)] = 0
            return own(input_ids, attention_mask=attention_mask, **kwargs)

        model.generate = generate
