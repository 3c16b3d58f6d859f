"""Fused attention keeps its start position between calls, so that a second answer goes on from the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _caches import see_what_is_ahead
from mutation import Mutant

__all__ = ["CacheNotReset"]


@dataclass(frozen=True)
class CacheNotReset(Mutant):
    """The first call is right; from the second on, the call before is attended as if it came first."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KV03 casper-hansen/AutoAWQ#170"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("second_call",)

    def change(self, model: Any) -> None:
        """Let what a reset should have removed stay visible until the next reset."""

        def plant(layer: Any) -> None:
            own = layer.reset

            def reset() -> None:
                length = int(layer.get_seq_length())
                layer.ahead.keys = layer.keys[:, :, :length].clone()
                layer.ahead.values = layer.values[:, :, :length].clone()
                own()

            layer.reset = reset

        see_what_is_ahead(model, plant)
