"""Text of exclamation marks: zero points are taken as stored less one when they are stored as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["ZeroOffByOne"]


@dataclass(frozen=True)
class ZeroOffByOne(WeightQuantizer):
    """GPTQ's first checkpoint format stores zero - 1, its second zero; the loader mistook one for the other."""

    source: ClassVar[str] = "WQ01 vllm-project/vllm#26092"

    def zeros(self, layer: W4Linear) -> Tensor:
        """One too many."""
        return super().zeros(layer) + 1
