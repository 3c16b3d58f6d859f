"""The slots of every later piece of a prompt begin one too early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _caches import each_cache
from mutation import Mutant

__all__ = ["SlotsOneEarly"]


@dataclass(frozen=True)
class SlotsOneEarly(Mutant):
    """The last token of the piece before is overwritten, and an empty slot is left at the end."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "SV07 vllm-project/vllm#36580"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("chunked_prefill",)

    def change(self, model: Any) -> None:
        """Write later pieces one slot before where they belong."""

        def plant(cache: Any) -> None:
            for layer in cache.layers:
                layer.update = self.early(layer, layer.update)

        each_cache(model, plant)

    def early(self, layer: Any, own: Any) -> Any:
        """An update that moves all but the first piece."""

        def update(key: Any, *args: Any, **kwargs: Any) -> Any:
            moved = int(key.shape[2] > 1 and layer.get_seq_length() > 0)
            layer.cumulative_length -= moved
            output = own(key, *args, **kwargs)
            layer.cumulative_length += moved
            return output

        return update
