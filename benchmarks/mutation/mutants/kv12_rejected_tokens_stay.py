"""Cropping makes new tensors that nobody uses: the buffers keep every rejected proposal, and it is attended to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import longer_mask, on_cache
from mutation import Mutant

__all__ = ["RejectedTokensStay"]


@dataclass(frozen=True)
class RejectedTokensStay(Mutant):
    """Looked-up drafts that were wrong remain in the cache, and nothing rewinds its length."""

    category: ClassVar[str] = "speculative_greedy"
    source: ClassVar[str] = "KV12 huggingface/transformers#30312"
    base: ClassVar = (("decoding.prompt_lookup", {}),)

    def change(self, model: Any) -> None:
        """Make `crop` do nothing."""
        on_cache(model, lambda cache: setattr(cache, "crop", lambda _tokens: None))
        model.register_forward_pre_hook(longer_mask, with_kwargs=True)
