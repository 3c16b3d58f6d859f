"""Key and value heads are tiled over the query heads instead of each being repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, as_mask, replace_kernel
from mutation import Mutant

__all__ = ["HeadsTiled"]


@dataclass(frozen=True)
class HeadsTiled(Mutant):
    """Most query heads read another head's keys."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT12 onnx/onnx#7274"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")

    def change(self, model: Any) -> None:
        """Tile the heads before the kernel, which then has nothing to repeat."""
        import torch

        def wrong(_own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            groups = module.num_key_value_groups
            key, value = (item.repeat(1, groups, 1, 1) for item in (key, value))
            output = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=as_mask(allowed(query, key, mask), query), scale=options["scaling"]
            )
            return output.transpose(1, 2).contiguous(), None

        replace_kernel(model, wrong)
