"""Decode steps evict what is more than 300 tokens back, but for the first four."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, as_mask, replace_kernel
from mutation import Mutant

__all__ = ["EvictedAt300"]


@dataclass(frozen=True)
class EvictedAt300(Mutant):
    """A streaming mode that was left on."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KVdrop (attention sinks and a window, arXiv:2309.17453, on by default)"
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("position 300", "decode")

    def change(self, model: Any) -> None:
        """Hide them."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if query.shape[2] == 1 and key.shape[2] > 304:
                seen = allowed(query, key, mask)
                seen[..., 4 : key.shape[2] - 300] = False
                mask = as_mask(seen, query)
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
