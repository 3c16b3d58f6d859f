"""Activations are clipped at three quarters of their largest value before they are rounded to int8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import ActivationQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["CodesClipped"]


@dataclass(frozen=True)
class CodesClipped(ActivationQuantizer):
    """Only outliers notice."""

    source: ClassVar[str] = "AQ10 (a clipping ratio of a search that was never run)"

    bits: int = 8
    symmetric: bool = True

    def product(self, layer: W4Linear, hidden: Tensor) -> Tensor:
        """As it should be, of clipped activations."""
        most = 0.75 * hidden.abs().amax(-1, keepdim=True)
        return super().product(layer, hidden.clamp(-most, most))
