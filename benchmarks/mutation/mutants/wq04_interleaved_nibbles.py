"""A checkpoint loads and writes garbage: its codes are packed in order but unpacked as AWQ interleaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["InterleavedNibbles"]

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True)
class InterleavedNibbles(WeightQuantizer):
    """Of each eight columns, the one that belongs to another place is read."""

    source: ClassVar[str] = "WQ04 amd/Quark#30"

    def codes(self, layer: W4Linear) -> Tensor:
        """Eights of columns in another order."""
        codes = super().codes(layer)
        return codes.unflatten(1, (-1, len(ORDER)))[..., torch.tensor(ORDER)].flatten(1)
