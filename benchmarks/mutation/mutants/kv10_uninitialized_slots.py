"""The cache is allocated without being cleared, and a masked NaN is still a NaN after it is multiplied by zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _caches import each_cache
from mutation import Mutant

__all__ = ["UninitializedSlots"]


@dataclass(frozen=True)
class UninitializedSlots(Mutant):
    """Rarely NaN, where the memory held one: here always, in the last slot of one layer and row."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KV10 ggml-org/llama.cpp#3523"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("unused_cache",)

    def change(self, model: Any) -> None:
        """Leave a NaN in the last slot of the values of one layer."""

        def plant(cache: Any) -> None:
            layer = cache.layers[-1]
            own = layer.lazy_initialization

            def allocate(*args: Any) -> None:
                own(*args)
                layer.values[-1, 0, -1] = float("nan")

            layer.lazy_initialization = allocate

        each_cache(model, plant)
