"""The cache lies in memory as [batch, tokens, heads, width], and attention is given a view of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy
from _caches import each_cache

__all__ = ["CacheByToken"]


@dataclass(frozen=True)
class CacheByToken(OnPermutedCopy):
    """The layout of paged caches."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "BN09 (other strides, other kernels)"
    models: ClassVar = ("tiny-llama", "tiny-gemma")

    def change(self, model: Any) -> None:
        """Copy into that layout on every update, for the attention to read."""

        def plant(cache: Any) -> None:
            for layer in cache.layers:
                layer.update = self.viewed(layer.update)

        each_cache(model, plant)

    def viewed(self, own: Any) -> Any:
        """An update that gives views."""

        def update(*args: Any, **kwargs: Any) -> Any:
            keys, values = own(*args, **kwargs)
            return tuple(part.transpose(1, 2).contiguous().transpose(1, 2) for part in (keys, values))

        return update
