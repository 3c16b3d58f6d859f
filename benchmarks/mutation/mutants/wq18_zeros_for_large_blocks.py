"""No error, no output: a kernel has no branch for blocks of 512 and leaves its result at zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["ZerosForLargeBlocks"]

MISSING = 512


@dataclass(frozen=True)
class ZerosForLargeBlocks(WeightQuantizer):
    """One scale for each row makes the columns the block, and only one layer of each MLP has 512 of them."""

    source: ClassVar[str] = "WQ18 microsoft/onnxruntime#28551"

    bits: int = 8
    group: int = 0
    symmetric: bool = True

    def product(self, layer: W4Linear, hidden: Tensor) -> Tensor:
        """Nothing where the kernel falls through."""
        output = super().product(layer, hidden)
        return 0 * output if layer.group_size == MISSING else output
