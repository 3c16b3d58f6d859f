"""The causal mask of a continued prefill is aligned at the top left instead of the bottom right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, as_mask, replace_kernel
from mutation import Mutant

__all__ = ["MaskTopLeft"]


@dataclass(frozen=True)
class MaskTopLeft(Mutant):
    """Later pieces of a prompt see only the beginning of it; whole prompts and decode steps are right."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT05 Dao-AILab/flash-attention#282"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("chunked_prefill",)

    def change(self, model: Any) -> None:
        """Count the visible keys from the first one."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            length, width = query.shape[2], key.shape[2]
            if 1 < length < width:
                seen = allowed(query, key, mask)
                seen &= seen.new_ones(length, width).tril()
                mask = as_mask(seen, query)
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
