"""Top-p leaves out the token that crosses the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import replaced, while_generating
from mutation import Mutant

__all__ = ["TopPStrict"]


@dataclass(frozen=True)
class TopPStrict(Mutant):
    """Less than p is kept, where p or a little more is meant."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL top_p strict for inclusive"
    models: ClassVar = ("tiny-llama",)
    needs: ClassVar = ("sampling", "top_p")

    def change(self, model: Any) -> None:
        """One token less, but never none."""
        from transformers.generation.logits_process import TopPLogitsWarper

        def call(warper: Any, _ids: Any, scores: Any) -> Any:
            ordered, places = scores.sort(dim=-1, descending=True)
            beyond = ordered.softmax(-1).cumsum(-1) > warper.top_p
            beyond[..., 0] = False
            return scores.masked_fill(beyond.scatter(-1, places, beyond), warper.filter_value)

        while_generating(model, lambda _kwargs: replaced(TopPLogitsWarper, "__call__", call))
