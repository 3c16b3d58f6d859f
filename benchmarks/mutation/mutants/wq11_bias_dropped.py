"""Severe loss on one architecture: the epilogue of its matrix product scales the bias by 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from quantizer import W4Linear
    from torch import Tensor

__all__ = ["BiasDropped"]


@dataclass(frozen=True)
class BiasDropped(WeightQuantizer):
    """The bias is loaded, handed over and never added."""

    source: ClassVar[str] = "WQ11 NVIDIA/TensorRT-LLM#12190"
    models: ClassVar[tuple[str, ...]] = ("tiny-qwen",)
    needs: ClassVar[tuple[str, ...]] = ("bias",)

    def bias(self, layer: W4Linear) -> Tensor | None:  # noqa: ARG002
        """Without effect."""
        return None
