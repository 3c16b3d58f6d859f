"""Both inputs of every matrix product keep ten bits of their mantissa, as TF32 tensor cores do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy, linears

__all__ = ["Tf32Inputs"]


def ten_bits(tensor: Any) -> Any:
    """To the nearest number with ten bits of mantissa."""
    import torch

    return ((tensor.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@dataclass(frozen=True)
class Tf32Inputs(OnPermutedCopy):
    """About as far from float32 as float16 is."""

    category: ClassVar[str] = "activation_quantization"
    source: ClassVar[str] = "BN tf32 (table M, B-tf32)"

    def change(self, model: Any) -> None:
        """Round the weights once, and what comes in each time."""
        for linear in linears(model):
            linear.weight.data = ten_bits(linear.weight.data)
            linear.register_forward_pre_hook(lambda _linear, args: (ten_bits(args[0]),))
