"""The attention of one layer is in training mode, with dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["AttentionDropout"]


@dataclass(frozen=True)
class AttentionDropout(Mutant):
    """A module that was taken out, trained and put back."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "DR attention_dropout with a submodule in training mode"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("repeat",)

    def change(self, model: Any) -> None:
        """Two percent of the weights of attention."""
        attention = model.model.layers[1].self_attn
        attention.attention_dropout = 0.02
        attention.train()
