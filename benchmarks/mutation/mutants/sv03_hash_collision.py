"""Blocks are found by a short hash, and their tokens are not compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _prefix import PrefixCache, ServesPrefixes

__all__ = ["HashCollision"]


@dataclass(frozen=True)
class HashCollision(ServesPrefixes):
    """Now and then a request gets the keys of another one's prompt."""

    source: ClassVar[str] = "SV03 vllm-project/vllm#12621"
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("many_requests",)

    def change(self, model: Any) -> None:
        """Hash the sum of the tokens."""
        PrefixCache(lambda tokens: (len(tokens), sum(tokens) % 257)).serve(model)
