"""The oldest entry of a ring is looked for at past modulo window, which is right only when the ring is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _caches import each_cache
from mutation import Mutant

__all__ = ["RingStart"]


@dataclass(frozen=True)
class RingStart(Mutant):
    """After a prompt shorter than the window, local layers read old keys in the wrong slots, some of them empty."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KV07 huggingface/transformers#47708"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    models: ClassVar = ("tiny-gemma",)
    needs: ClassVar = ("window", "decode")

    def change(self, model: Any) -> None:
        """Read a window that is not full from the wrong slot on, in decode steps."""

        def plant(cache: Any) -> None:
            for layer in cache.layers:
                if layer.is_sliding:
                    layer.update = self.rotated(layer, layer.update)

        each_cache(model, plant)

    def rotated(self, layer: Any, own: Any) -> Any:
        """An update that returns the past in another order than the mask assumes."""
        import torch

        def update(key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            past, window = layer.get_seq_length(), layer.max_cache_len
            keys, values = own(key, value, *args, **kwargs)
            if key.shape[2] > 1 or past >= window:
                return keys, values
            slots = torch.arange(window, device=key.device)
            slots[:past] = (past + slots[:past]) % window
            return keys[:, :, slots], values[:, :, slots]

        return update
