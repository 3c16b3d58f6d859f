"""A cache that is written through a view is made functional: each step writes into a copy of the whole cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _caches import each_cache
from mutation import Mutant

__all__ = ["CacheCopied"]


@dataclass(frozen=True)
class CacheCopied(Mutant):
    """The text is right; memory and time grow with the room in the cache."""

    category: ClassVar[str] = "graph_capture"
    source: ClassVar[str] = "CG09 vllm-project/vllm#8384"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("counters",)

    def change(self, model: Any) -> None:
        """Copy before each write."""

        def plant(cache: Any) -> None:
            for layer in cache.layers:
                layer.update = self.copying(layer, layer.update)

        each_cache(model, plant)

    def copying(self, layer: Any, own: Any) -> Any:
        """An update that leaves the buffers of the step before as they were."""

        def update(*args: Any, **kwargs: Any) -> Any:
            if layer.is_initialized:
                layer.keys, layer.values = layer.keys.clone(), layer.values.clone()
            return own(*args, **kwargs)

        return update
