"""One static cache object for all calls, reset between them as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["ReusedStaticCache"]


@dataclass(frozen=True)
class ReusedStaticCache(OnPermutedCopy):
    """What KV03 looks like when it is right."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "BN KV03 casper-hansen/AutoAWQ#178 (after the fix)"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    models: ClassVar = ("tiny-gemma",)
