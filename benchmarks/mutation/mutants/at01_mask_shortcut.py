"""Without padding the builder returns no mask, and a bias put in its place switches the causal flag off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import replace_kernel
from mutation import Mutant

__all__ = ["MaskShortcut"]


@dataclass(frozen=True)
class MaskShortcut(Mutant):
    """Prompts without padding see their own future; perplexity looks better than it is."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT01 huggingface/transformers#48748"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("unpadded",)

    def change(self, model: Any) -> None:
        """Replace the missing mask of a prefill by zeros."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if mask is None and query.shape[2] > 1:
                mask = query.new_zeros(1, 1, query.shape[2], key.shape[2])
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
