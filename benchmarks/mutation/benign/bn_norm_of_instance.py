"""A fused norm, written another way, put into each norm of this model and of no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy

__all__ = ["NormOfInstance"]


@dataclass(frozen=True)
class NormOfInstance(OnPermutedCopy):
    """What a kernel library should do in place of patching a class."""

    category: ClassVar[str] = "graph_capture"
    source: ClassVar[str] = "BN11 kernels that replace modules"
    models: ClassVar = ("tiny-qwen", "tiny-llama")

    def change(self, model: Any) -> None:
        """The root mean square first, then a division."""
        for module in model.modules():
            if hasattr(module, "variance_epsilon"):

                def forward(hidden: Any, module: Any = module) -> Any:
                    size = (
                        hidden.float().norm(dim=-1, keepdim=True) ** 2 / hidden.shape[-1] + module.variance_epsilon
                    ).sqrt()
                    return (hidden.float() / size).to(hidden.dtype) * module.weight

                module.forward = forward
