"""Output that has nothing to do with the input: without zero points a kernel centers codes on 0, not on the middle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["DefaultZeroPoint"]


@dataclass(frozen=True)
class DefaultZeroPoint(WeightQuantizer):
    """The format says that zero points left out are 2^(bits-1)."""

    source: ClassVar[str] = "WQ19 ROCm/hip-ep#134"

    symmetric: bool = True

    def zeros(self, layer: W4Linear) -> Tensor:
        """What an input that is not there defaults to."""
        return torch.zeros_like(super().zeros(layer))
