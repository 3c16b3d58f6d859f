"""EETQ: int8 weights with a scale for each output column, on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_llmopt.core.optimization import AccuracyLimits
from pytest_llmopt.core.requirements import Cuda, Requirement
from pytest_llmopt.optimizations.quantization._integrated import HUB_KERNELS, LibraryQuantizer, needs

__all__ = ["Eetq"]


@dataclass(frozen=True)
class Eetq(LibraryQuantizer):
    """Linear layers with int8 weights, quantized while loading."""

    config_class: ClassVar[str] = "EetqConfig"

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The package of kernels and a GPU, as Transformers asks."""
        return (
            needs(HUB_KERNELS, "eetq"),
            Cuda(),
        )

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """8-bit weights."""
        return AccuracyLimits(0.005, 0.96, 1.01, "k-bit scaling laws, arXiv:2212.09720: 8-bit weights near 16")

    @property
    def bytes_per_weight(self) -> float:
        """A byte."""
        return 1.0
