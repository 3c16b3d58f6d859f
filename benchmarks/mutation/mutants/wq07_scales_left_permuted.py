"""No accuracy at all with group-wise scales: a kernel's row order of scales is undone for channel-wise ones only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["ScalesLeftPermuted"]

TILE = 8


@dataclass(frozen=True)
class ScalesLeftPermuted(WeightQuantizer):
    """Marlin's tiles of 64 output rows keep their scales transposed as 8 x 8; here nobody puts them back."""

    source: ClassVar[str] = "WQ07 vllm-project/compressed-tensors#203"

    symmetric: bool = True

    def scales(self, layer: W4Linear) -> Tensor:
        """In the order of the kernel."""
        tiles = super().scales(layer).unflatten(0, (-1, TILE, TILE))
        return tiles.transpose(1, 2).flatten(0, 2)
