"""A static cache of more room than any request needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["LongerStaticCache"]


@dataclass(frozen=True)
class LongerStaticCache(OnPermutedCopy):
    """More masked places, other blocks in the kernel."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "BN KV01 huggingface/transformers#30437 (the length alone)"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 1024}),)
    models: ClassVar = ("tiny-qwen",)
