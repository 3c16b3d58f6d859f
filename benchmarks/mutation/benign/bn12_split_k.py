"""The inner dimension of every matrix product is cut in two and the halves are added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy, linears

__all__ = ["SplitK"]


@dataclass(frozen=True)
class SplitK(OnPermutedCopy):
    """What a kernel for thin matrices does."""

    category: ClassVar[str] = "weight_quantization"
    source: ClassVar[str] = "BN12 vllm-project/vllm#7779"
    models: ClassVar = ("tiny-qwen",)

    def change(self, model: Any) -> None:
        """Add two products."""
        from torch.nn.functional import linear

        for module in linears(model):

            def forward(x: Any, module: Any = module) -> Any:
                half = module.in_features // 2
                weight = module.weight
                return linear(x[..., :half], weight[:, :half], module.bias) + linear(x[..., half:], weight[:, half:])

            module.forward = forward
