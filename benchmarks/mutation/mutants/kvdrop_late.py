"""Past 256 decode steps the first page of the answer is handed out again: sixteen cached tokens are gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _lost import lose
from mutation import Mutant

__all__ = ["PageLostLate"]


@dataclass(frozen=True)
class PageLostLate(Mutant):
    """Only long answers show it."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KVdrop bugzoo section M (a page, later)"
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("very_long_output",)

    def change(self, model: Any) -> None:
        """Hide what was decoded first."""
        lose(model, tokens=16, after=256)
