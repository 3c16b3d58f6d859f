"""Garbled text with asymmetric activations: the sum of the weights is taken off without the zero point as a factor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import ActivationQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["CorrectionWithoutZero"]


@dataclass(frozen=True)
class CorrectionWithoutZero(ActivationQuantizer):
    """The correction is prepared for another formula than the kernel's."""

    source: ClassVar[str] = "AQ11 vllm-project/vllm#10292"
    needs: ClassVar[tuple[str, ...]] = ("asymmetric",)

    static: bool = True

    def multiply(self, layer: W4Linear, codes: Tensor, zero: Tensor) -> Tensor:
        """Take the sum of the weights off once."""
        return super().multiply(layer, codes, zero) + (zero - 1) * self.dequantize(layer).sum(-1)
