"""A static cache as it is shipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["RightStaticCache"]


@dataclass(frozen=True)
class RightStaticCache(OnPermutedCopy):
    """Buffers of a fixed length, masked where nothing is."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "BN01 huggingface/transformers#36536 (KV cache and no cache)"
    base: ClassVar = (("decoding.static_cache", {}),)
