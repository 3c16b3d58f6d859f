"""The decode mask ends two slots too late, so that two empty slots of a pre-allocated cache are attended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, as_mask, replace_kernel
from mutation import Mutant

__all__ = ["TwoEmptySlots"]


@dataclass(frozen=True)
class TwoEmptySlots(Mutant):
    """A small share of every decode step's attention goes to keys that are zero."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KV01 huggingface/transformers#30437 (two slots, as in section M)"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("decode",)

    def change(self, model: Any) -> None:
        """Let every decode step see two slots more."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if query.shape[2] == 1:
                seen = allowed(query, key, mask)
                length = int(seen.any(0).nonzero()[-1, -1]) + 1
                seen[..., length : length + 2] = True
                mask = as_mask(seen, query)
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
