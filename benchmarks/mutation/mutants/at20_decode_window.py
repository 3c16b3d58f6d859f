"""The window of a one-token query is counted from the wrong end, so that early keys inside it are masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, as_mask, replace_kernel
from mutation import Mutant

__all__ = ["DecodeWindow"]


@dataclass(frozen=True)
class DecodeWindow(Mutant):
    """Decode steps past the window see only its newer half; prefill is right."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT20 ROCm/flash-attention#158"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-gemma",)
    needs: ClassVar = ("window", "decode")

    def change(self, model: Any) -> None:
        """Hide the older half of a full window."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            window = module.sliding_window
            if window is not None and query.shape[2] == 1 and key.shape[2] >= window:
                seen = allowed(query, key, mask)
                seen[..., : -window // 2] = False
                mask = as_mask(seen, query)
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
