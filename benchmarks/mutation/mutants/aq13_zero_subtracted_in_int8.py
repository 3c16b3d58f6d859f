"""Wrong where the zero point is negative: it is subtracted in eight bits, and large codes wrap around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from quantizer import ActivationQuantizer
from torch.nn.functional import linear

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["ZeroSubtractedInInt8"]


@dataclass(frozen=True)
class ZeroSubtractedInInt8(ActivationQuantizer):
    """The difference of two int8 needs nine bits."""

    source: ClassVar[str] = "AQ13 pytorch/executorch#20655"
    needs: ClassVar[tuple[str, ...]] = ("asymmetric",)

    static: bool = True

    def multiply(self, layer: W4Linear, codes: Tensor, zero: Tensor) -> Tensor:
        """Subtract first, in the type of the codes."""
        centered = codes.to(torch.int8) - zero.to(torch.int8)
        return linear(centered.to(codes.dtype), self.dequantize(layer).to(codes.dtype))
