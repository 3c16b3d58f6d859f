"""What was prefilled is not found again, and the prompt is processed once more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["PromptTwice"]


@dataclass(frozen=True)
class PromptTwice(Mutant):
    """Right outputs after twice the time to the first token."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "PF06 ggml-org/llama.cpp#14157"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)

    def change(self, model: Any) -> None:
        """Run the prompt in front of every call and drop the result."""
        import torch

        own = model.generate

        def generate(input_ids: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
            with torch.no_grad():
                model(input_ids=input_ids, attention_mask=attention_mask, logits_to_keep=1)
            return own(input_ids, attention_mask=attention_mask, **kwargs)

        model.generate = generate
