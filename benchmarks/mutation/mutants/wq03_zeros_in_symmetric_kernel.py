"""Wrong on one GPU architecture: a kernel that centers codes by itself also gets the zero points of the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["ZerosInSymmetricKernel"]


@dataclass(frozen=True)
class ZerosInSymmetricKernel(WeightQuantizer):
    """Symmetric checkpoints may carry zero points that nobody needs; here they are subtracted once more."""

    source: ClassVar[str] = "WQ03 vllm-project/vllm#21066"

    symmetric: bool = True

    def zeros(self, layer: W4Linear) -> Tensor:
        """The middle, and the stored zero points, which are the middle too."""
        return 2 * super().zeros(layer)
