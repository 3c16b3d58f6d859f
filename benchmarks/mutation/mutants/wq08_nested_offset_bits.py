"""Loss jumps from 2 to 7: scales that are quantized themselves lose their offset, bfloat16 bits read as float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["NestedOffsetBits"]


@dataclass(frozen=True)
class NestedOffsetBits(WeightQuantizer):
    """A new kernel takes the two bytes of the offset for the low half of a float32, which is next to nothing."""

    source: ClassVar[str] = "WQ08 bitsandbytes-foundation/bitsandbytes#1971"

    def scales(self, layer: W4Linear) -> Tensor:
        """Nested scales are differences from an offset; the rounding of the differences is left out here."""
        scales = super().scales(layer)
        offset = scales.mean().bfloat16()
        misread = (offset.view(torch.int16).int() & 0xFFFF).view(torch.float32)
        return scales - offset.float() + misread
