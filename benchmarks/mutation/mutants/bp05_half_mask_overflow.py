"""The lowest float32 becomes minus infinity in float16, and rows of padding see nothing at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, replace_kernel
from mutation import Mutant

__all__ = ["HalfMaskOverflow"]


@dataclass(frozen=True)
class HalfMaskOverflow(Mutant):
    """Empty strings for padded rows in float16."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "BP05 unslothai/unsloth#9708"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("padding",)
    dtype: ClassVar[str] = "float16"

    def change(self, model: Any) -> None:
        """Make the mask in float32 and convert it."""
        import torch

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if mask is not None:
                seen = allowed(query, key, mask)
                lowest = torch.finfo(torch.float32).min
                mask = torch.zeros(seen.shape).masked_fill(~seen, lowest).to(query.dtype)
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
