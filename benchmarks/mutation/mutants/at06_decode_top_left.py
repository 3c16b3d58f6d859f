"""Causal alignment at the top left for every query that is shorter than the keys, decode steps included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, as_mask, replace_kernel
from mutation import Mutant

__all__ = ["DecodeTopLeft"]


@dataclass(frozen=True)
class DecodeTopLeft(Mutant):
    """A decode step sees only the first token."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT06 microsoft/onnxruntime#29020"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("decode",)

    def change(self, model: Any) -> None:
        """Count the visible keys from the first one."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            length, width = query.shape[2], key.shape[2]
            if length < width:
                seen = allowed(query, key, mask)
                seen &= seen.new_ones(length, width).tril()
                mask = as_mask(seen, query)
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
