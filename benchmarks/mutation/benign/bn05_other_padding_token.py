"""Padded places hold another token; nobody attends to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy

__all__ = ["OtherPaddingToken"]


@dataclass(frozen=True)
class OtherPaddingToken(OnPermutedCopy):
    """Only the content of what is masked differs."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "BN05 QwenLM/Qwen3#874"
    needs: ClassVar = ("padding",)

    def change(self, model: Any) -> None:
        """Fill them with a token that depends on the seed."""
        own = model.generate

        def generate(input_ids: Any, attention_mask: Any, **kwargs: Any) -> Any:
            filled = input_ids.masked_fill(attention_mask == 0, 3 + self.seed)
            return own(filled, attention_mask=attention_mask, **kwargs)

        model.generate = generate
