"""The padding mask is not handed on: padded places count as tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, as_mask, replace_kernel
from mutation import Mutant

__all__ = ["PaddingAttended"]


@dataclass(frozen=True)
class PaddingAttended(Mutant):
    """Rows beside longer ones attend to their padding."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "BP01 ndif-team/nnsight#673 (mask ignored, as in section M)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("padding",)

    def change(self, model: Any) -> None:
        """Keep causality and drop everything else from the mask."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if mask is not None:
                seen = allowed(query, key, mask)
                mask = as_mask(seen.any(0, keepdim=True), query)
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
