"""The cache gives a global layer the window of its local neighbour, and the neighbour none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import replace_kernel
from mutation import Mutant

__all__ = ["WindowsSwapped"]


@dataclass(frozen=True)
class WindowsSwapped(Mutant):
    """Decode steps of one global layer see no further than the window."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KV09 huggingface/transformers#31786"
    models: ClassVar = ("tiny-gemma",)
    needs: ClassVar = ("window", "decode")

    def for_transformers(self, plan: Any) -> None:
        """Hand out caches whose first two layers changed places; cut masks and keys to each other, as it was done."""

        def make(model: Any, _batch: int) -> dict[str, Any]:
            from transformers import DynamicCache

            cache = DynamicCache(config=model.config)
            cache.layers[2], cache.layers[1] = cache.layers[1], cache.layers[2]
            return {"past_key_values": cache}

        plan.per_call.append(make)
        super().for_transformers(plan)

    def change(self, model: Any) -> None:
        """Keep the last columns of whichever is longer."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            width = min(key.shape[2], mask.shape[-1]) if mask is not None else key.shape[2]
            mask = mask if mask is None else mask[..., -width:]
            return own(module, query, key[:, :, -width:], value[:, :, -width:], mask, **options)

        replace_kernel(model, wrong)
