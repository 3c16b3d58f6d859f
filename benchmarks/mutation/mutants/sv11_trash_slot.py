"""Padding writes its keys to a shared slot which, in a small pool, is one that is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, replace_kernel
from mutation import Mutant

__all__ = ["TrashSlot"]


@dataclass(frozen=True)
class TrashSlot(Mutant):
    """NaN, but only when the pool is nearly used up."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "SV11 huggingface/transformers#46765"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("padding", "large_batch")

    pool: int = 1024

    def change(self, model: Any) -> None:
        """Where a batch needs more than the pool, padding holds NaN."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if mask is not None and key.shape[0] * key.shape[2] > self.pool:
                unseen = ~allowed(query, key, mask)[:, 0].any(1)
                value = value.masked_fill(unseen[:, None, :, None], float("nan"))
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
