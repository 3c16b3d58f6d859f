"""The mask is left out because sdpa would not need it, but the eager kernel runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, replace_kernel
from mutation import Mutant

__all__ = ["EagerWithoutMask"]


@dataclass(frozen=True)
class EagerWithoutMask(Mutant):
    """Batches of equal lengths lose causality; ragged ones keep their mask."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT02 huggingface/transformers#30652"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("unpadded",)

    def change(self, model: Any) -> None:
        """Drop a mask that says nothing but causality."""
        import torch

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            seen = allowed(query, key, mask)
            if seen.shape[2] == seen.shape[3] and torch.equal(seen, seen.new_ones(seen.shape).tril()):
                mask = None
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
