"""Some more padding on the left of every batch, masked as padding is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy

__all__ = ["MorePadding"]


@dataclass(frozen=True)
class MorePadding(OnPermutedCopy):
    """Another width, and so another order of sums."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "BN04 huggingface/transformers#29029"
    needs: ClassVar = ("padding",)

    def change(self, model: Any) -> None:
        """Pad before the call and cut off after it; what else is called with the tokens does not see it either."""
        import torch

        own, more = model.generate, 1 + self.seed % 32

        def narrow(function: Any) -> Any:
            return lambda ids, scores, **others: function(ids[:, more:], scores, **others)

        def generate(input_ids: Any, attention_mask: Any, pad_token_id: int, **kwargs: Any) -> Any:
            padding = input_ids.new_full((len(input_ids), more), pad_token_id)
            for name in ("logits_processor", "stopping_criteria"):
                if kwargs.get(name) is not None:
                    kwargs[name] = [narrow(function) for function in kwargs[name]]
            mask = torch.cat([torch.zeros_like(padding), attention_mask], dim=1)
            ids = torch.cat([padding, input_ids], dim=1)
            output = own(ids, attention_mask=mask, pad_token_id=pad_token_id, **kwargs)
            output.sequences = output.sequences[:, more:]
            return output

        model.generate = generate
