"""A static cache with a compiled decode step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["CompiledStaticCache"]


@dataclass(frozen=True)
class CompiledStaticCache(OnPermutedCopy):
    """Fused operations keep more bits between them."""

    category: ClassVar[str] = "graph_capture"
    source: ClassVar[str] = "BN08 pytorch/pytorch#181568"
    base: ClassVar = (("decoding.static_cache", {"compile": True, "max_cache_len": 704, "mode": "default"}),)
    needs: ClassVar = ("compiler",)
