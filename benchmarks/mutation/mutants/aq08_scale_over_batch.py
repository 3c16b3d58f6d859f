"""Too good to be true: the scale of activations is taken over the batch, so each of a lone row has its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import ActivationQuantizer
from torch.nn.functional import linear

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["ScaleOverBatch"]


@dataclass(frozen=True)
class ScaleOverBatch(ActivationQuantizer):
    """The wrong axes are reduced; with one row nothing is rounded, with several a row depends on its mates."""

    source: ClassVar[str] = "AQ08 vllm-project/compressed-tensors#394"
    needs: ClassVar[tuple[str, ...]] = ("batch",)

    def product(self, layer: W4Linear, hidden: Tensor) -> Tensor:
        """Rounded by scales of `[1, tokens, width]` where `[batch, tokens, 1]` is meant, as a simulation does it."""
        scale = hidden.abs().amax(0, keepdim=True).clamp(min=1e-6) / 127
        return linear((hidden / scale).round() * scale, self.dequantize(layer).to(hidden.dtype))
