"""A prefill that goes on behind cached tokens counts positions from zero again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import reposition
from _prefix import PrefixCache, ServesPrefixes

__all__ = ["ResumeAtZero"]


@dataclass(frozen=True)
class ResumeAtZero(ServesPrefixes):
    """A miss is right, a hit is not; neither is the second piece of a prompt."""

    source: ClassVar[str] = "SV05 tenstorrent/vllm#415"
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("shared_prefix", "chunked_prefill")

    def change(self, model: Any) -> None:
        """Serve prefixes from a right cache, and resume at the wrong position."""
        PrefixCache().serve(model)
        reposition(model, lambda positions, past, _: positions - past if positions.shape[-1] > 1 else positions)
