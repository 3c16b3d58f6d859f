"""A rotating cache counts its tokens twice, and its reset clears the keys and only one of the two counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _caches import each_cache
from mutation import Mutant

__all__ = ["WindowNotReset"]


@dataclass(frozen=True)
class WindowNotReset(Mutant):
    """In a cache that was used before, prompts within the window go to other slots than the mask assumes."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KV05 huggingface/transformers#31917"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    models: ClassVar = ("tiny-gemma",)
    needs: ClassVar = ("second_call", "window")

    def change(self, model: Any) -> None:
        """Write where the call before stopped, around the end of the window."""

        def plant(cache: Any) -> None:
            for layer in cache.layers:
                if layer.is_sliding:
                    layer.stale = 0
                    layer.reset, layer.update = self.resetting(layer, layer.reset), self.writing(layer, layer.update)

        each_cache(model, plant)

    def resetting(self, layer: Any, own: Any) -> Any:
        """A reset that forgets about one count."""

        def reset() -> None:
            layer.stale = (layer.stale + int(layer.cumulative_length)) % layer.max_cache_len
            own()

        return reset

    def writing(self, layer: Any, own: Any) -> Any:
        """An update that goes by that count until the window is full."""

        def update(key: Any, *args: Any, **kwargs: Any) -> Any:
            past, window = layer.cumulative_length_int, layer.max_cache_len
            if past + key.shape[2] > window or (past and key.shape[2] > 1):
                return own(key, *args, **kwargs)
            count = int(layer.cumulative_length)
            if key.shape[2] == 1:
                layer.cumulative_length.fill_((count + layer.stale) % window)
            keys, values = own(key, *args, **kwargs)
            layer.cumulative_length.fill_(count + key.shape[2])
            if key.shape[2] > 1:
                keys.copy_(keys.roll(layer.stale, 2))
                values.copy_(values.roll(layer.stale, 2))
            return keys, values

        return update
