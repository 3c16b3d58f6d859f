"""After sixteen decode steps one token is gone from the cache: a page table loses one entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _lost import lose
from mutation import Mutant

__all__ = ["OneTokenLost"]


@dataclass(frozen=True)
class OneTokenLost(Mutant):
    """Short answers are right; later steps no longer see the first token that was decoded."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KVdrop bugzoo section M"
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("long_output",)

    def change(self, model: Any) -> None:
        """Hide what was decoded first."""
        lose(model, tokens=1, after=16)
