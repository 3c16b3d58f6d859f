"""Where the padded length is one more than a multiple of 32, rows without any visible key are not guarded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, replace_kernel
from mutation import Mutant

__all__ = ["MaskedRowsEvery32"]


@dataclass(frozen=True)
class MaskedRowsEvery32(Mutant):
    """NaN for left-padded prompts of a few lengths, from prefill alone."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT03 huggingface/transformers#47651"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("padding",)

    def change(self, model: Any) -> None:
        """Mask with minus infinity at those lengths."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if query.shape[2] > 1 and query.shape[2] % 32 == 1 and mask is not None:
                mask = query.new_zeros(mask.shape).masked_fill(~allowed(query, key, mask), -float("inf"))
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
