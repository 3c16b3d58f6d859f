"""Silently wrong at the default optimization level: scales of blocks along one axis are fused as along the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["ScalesTransposed"]


@dataclass(frozen=True)
class ScalesTransposed(WeightQuantizer):
    """Only square matrices let this pass: the other shapes fail to fuse and stay right."""

    source: ClassVar[str] = "WQ23 onnxsim/onnxsim#749"

    symmetric: bool = True

    def dequantize(self, layer: W4Linear) -> Tensor:
        """Each weight of a square matrix by the scale of its mirror image."""
        if layer.in_features != layer.out_features:
            return super().dequantize(layer)
        scales = self.scales(layer)[:, self.group_of(layer)]
        return super().dequantize(layer) / scales * scales.T
