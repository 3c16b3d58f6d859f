"""Honest int8 activations with one scale for all of a pass, found anew in each: rows depend on their mates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from quantizer import ActivationQuantizer

from pytest_llmopt.core.optimization import AccuracyLimits

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

    from pytest_llmopt.core.weight_format import WeightFormat

__all__ = ["A8PerTensorDynamic"]


@dataclass(frozen=True)
class A8PerTensorDynamic(ActivationQuantizer):
    """Per-tensor dynamic activations, within their own limits."""

    source: ClassVar[str] = "L int8 activations, one dynamic scale for a tensor (torch's dynamic quantization)"
    models: ClassVar[tuple[str, ...]] = ("tiny-llama", "tiny-qwen", "tiny-gemma")

    bits: int = 8
    symmetric: bool = True

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """A scale for a whole tensor costs several times what one for each token does."""
        return AccuracyLimits(0.05, 0.88, 1.05, "SmoothQuant, arXiv:2211.10438, table 4: per-tensor, a few percent")

    @property
    def weight_format(self) -> WeightFormat | None:
        """All tokens of a batch share a scale, so what a token gets depends on its company, and says so."""
        own = super().weight_format
        return None if own is None else replace(own, activation_scales="tensor")

    def activation_scale(self, layer: W4Linear, hidden: Tensor) -> Tensor:  # noqa: ARG002
        """One, of all that is there."""
        return hidden.abs().amax().clamp(min=1e-6) / 127
