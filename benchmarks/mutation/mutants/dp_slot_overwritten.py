"""A static cache takes slots modulo 640, so that late tokens overwrite the first ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from _caches import each_cache
from mutation import Mutant

__all__ = ["SlotOverwritten"]


@dataclass(frozen=True)
class SlotOverwritten(Mutant):
    """The beginning of a long conversation is replaced."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KV07 huggingface/transformers#47708 (slots modulo another size)"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 1024}),)
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("position 640",)

    def change(self, model: Any) -> None:
        """Write a second time where it wraps."""

        def plant(cache: Any) -> None:
            for layer in cache.layers:
                layer.update = self.wrapped(layer, layer.update)

        each_cache(model, plant)

    def wrapped(self, layer: Any, own: Any) -> Any:
        """An update whose slots wrap."""

        def update(key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            start = int(layer.get_seq_length())
            keys, values = own(key, value, *args, **kwargs)
            slots = torch.arange(start, start + key.shape[2])
            late = slots >= 640
            if late.any():
                keys[:, :, slots[late] - 640] = key[:, :, late]
                values[:, :, slots[late] - 640] = value[:, :, late]
            return keys, values

        return update
