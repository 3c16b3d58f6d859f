"""Every answer ends with its first token, with a static cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _both import EndsAtOnce
from mutation import Mutant

__all__ = ["EndsAtOnceStatic"]


@dataclass(frozen=True)
class EndsAtOnceStatic(Mutant):
    """Nothing is decoded beyond prefill."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "BN texts that end at once"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704}),)
    both: ClassVar = (EndsAtOnce,)
    models: ClassVar = ("tiny-qwen",)

    seed: int = 0

    def change(self, model: Any) -> None:
        """Nothing more."""
