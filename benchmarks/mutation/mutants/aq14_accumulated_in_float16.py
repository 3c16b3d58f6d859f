"""Infinities on old GPUs: their fallback adds up products of codes in float16 and scales afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import ActivationQuantizer
from torch.nn.functional import linear

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["AccumulatedInFloat16"]


@dataclass(frozen=True)
class AccumulatedInFloat16(ActivationQuantizer):
    """Two codes of 127 make 16129, and float16 ends at 65504."""

    source: ClassVar[str] = "AQ14 bitsandbytes-foundation/bitsandbytes#165"
    needs: ClassVar[tuple[str, ...]] = ("large_activations",)

    bits: int = 8
    group: int = 0
    symmetric: bool = True

    def multiply(self, layer: W4Linear, codes: Tensor, zero: Tensor) -> Tensor:  # noqa: ARG002
        """Codes by codes, summed in half precision."""
        weights = self.codes(layer) - self.zeros(layer)
        return linear(codes.half(), weights.half()).to(codes.dtype) * self.scales(layer).T
