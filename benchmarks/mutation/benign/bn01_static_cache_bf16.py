"""A static cache in bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["StaticCacheBfloat16"]


@dataclass(frozen=True)
class StaticCacheBfloat16(OnPermutedCopy):
    """Rounding is loud, and the same on both sides."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "BN01 huggingface/transformers#36536"
    base: ClassVar = (("decoding.static_cache", {}),)
    dtype: ClassVar[str] = "bfloat16"
