"""Qwen degrades and Llama does not: kernel and wrapper each add the bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["BiasTwice"]


@dataclass(frozen=True)
class BiasTwice(WeightQuantizer):
    """The bias of queries, keys and values counts twice."""

    source: ClassVar[str] = "WQ10 casper-hansen/AutoAWQ#369"
    models: ClassVar[tuple[str, ...]] = ("tiny-qwen",)
    needs: ClassVar[tuple[str, ...]] = ("bias",)

    def bias(self, layer: W4Linear) -> Tensor | None:
        """Twice."""
        bias = super().bias(layer)
        return None if bias is None else 2 * bias
