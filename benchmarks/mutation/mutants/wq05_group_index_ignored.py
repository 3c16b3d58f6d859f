"""Act-order checkpoints give nonsense, others are fine: the group of a column is counted off, not looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["GroupIndexIgnored"]


@dataclass(frozen=True)
class GroupIndexIgnored(WeightQuantizer):
    """Columns get the scales of a group that they are not in."""

    source: ClassVar[str] = "WQ05 NVIDIA/TensorRT-LLM#503"
    needs: ClassVar[tuple[str, ...]] = ("act_order",)

    act_order: bool = True

    def group_of(self, layer: W4Linear) -> Tensor:
        """As without act-order."""
        return torch.arange(layer.in_features) // layer.group_size
