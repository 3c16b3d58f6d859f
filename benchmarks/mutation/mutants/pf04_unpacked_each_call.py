"""The slow kernel was selected: every call unpacks the whole weight before it multiplies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["UnpackedEachCall"]


@dataclass(frozen=True)
class UnpackedEachCall(Mutant):
    """Right outputs and the right memory, several times slower than the kernel that the format has."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "PF04 vllm-project/vllm#21376"
    base: ClassVar = (("quantization.torchao", {}),)

    def change(self, model: Any) -> None:
        """Unpack in front of every product."""
        import torch

        for module in model.modules():
            if type(getattr(module, "weight", None)).__name__.startswith("Int8"):

                def forward(x: Any, module: Any = module) -> Any:
                    return torch.nn.functional.linear(x, module.weight.dequantize(), module.bias)

                module.forward = forward
