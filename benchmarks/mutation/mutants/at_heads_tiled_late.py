"""Beyond 256 keys a kernel repeats the key heads of the last layer in the wrong order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from _attention import replace_kernel
from mutation import Mutant

__all__ = ["HeadsTiledLate"]


@dataclass(frozen=True)
class HeadsTiledLate(Mutant):
    """Short texts never take that kernel."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT12 onnx/onnx#7274 (in the kernel for long text)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    needs: ClassVar = ("position 256",)

    def change(self, model: Any) -> None:
        """Tile them."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if module.layer_idx == 3 and key.shape[2] > 256:
                heads = module.config.num_attention_heads // 2
                order = torch.arange(module.config.num_attention_heads).view(heads, 2).T.flatten()
                output, weights = own(module, query[:, order], key, value, mask, **options)
                return output[:, :, order.argsort()], weights
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
