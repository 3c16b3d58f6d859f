"""A cache in use keeps the first prompt: later prefills into it are not written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _caches import each_cache
from mutation import Mutant

__all__ = ["FirstPromptLocked"]


@dataclass(frozen=True)
class FirstPromptLocked(Mutant):
    """The first answer is right; every later one is still about the first prompt."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KV02 huggingface/transformers#30351"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("second_call",)

    def change(self, model: Any) -> None:
        """Put the first prefill's keys and values back after each later one."""

        def plant(cache: Any) -> None:
            for layer in cache.layers:
                layer.update = self.locked(layer, layer.update)

        each_cache(model, plant)

    def locked(self, layer: Any, own: Any) -> Any:
        """An update that writes only the first prefill."""
        first: list[Any] = []

        def update(key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            output = own(key, value, *args, **kwargs)
            if key.shape[2] > 1 and not first:
                first.extend([key.clone(), value.clone()])
            elif key.shape[2] > 1:
                length = min(key.shape[2], first[0].shape[2])
                layer.keys[:, :, :length] = first[0][:, :, :length]
                layer.values[:, :, :length] = first[1][:, :, :length]
            return output

        return update
