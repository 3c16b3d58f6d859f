"""In decode steps of several rows, all rows are rounded with the scale of the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import ActivationQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["ScaleOfFirstToken"]


@dataclass(frozen=True)
class ScaleOfFirstToken(ActivationQuantizer):
    """Prefill, and rows alone, are right."""

    source: ClassVar[str] = "AQ08 vllm-project/compressed-tensors#394 (a row index dropped)"
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("batch", "decode")

    bits: int = 8
    symmetric: bool = True

    def activation_scale(self, layer: W4Linear, hidden: Tensor) -> Tensor:
        """Of row 0 where each row has one token."""
        own = super().activation_scale(layer, hidden)
        return own[:1].expand_as(own) if hidden.dim() == 3 and hidden.shape[1] == 1 else own
