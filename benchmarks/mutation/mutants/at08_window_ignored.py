"""The mask builder of one back end drops the sliding window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import around, configured
from mutation import Mutant

__all__ = ["WindowIgnored"]


@dataclass(frozen=True)
class WindowIgnored(Mutant):
    """Local layers see the whole prompt in prefill; decode steps are held to the window by the cache."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT08 huggingface/transformers#30127"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-gemma",)
    needs: ClassVar = ("window",)

    def change(self, model: Any) -> None:
        """Build masks for a window as long as the model's context; caches keep theirs."""
        around(model.model, "forward", lambda: configured(model, sliding_window=model.config.max_position_embeddings))
