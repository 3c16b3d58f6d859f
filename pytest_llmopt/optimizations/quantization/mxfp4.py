"""MXFP4: the experts of a mixture in 4-bit floats, 32 to a scale that is a power of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pytest_llmopt.core.optimization import AccuracyLimits
from pytest_llmopt.optimizations.quantization._integrated import HUB_KERNELS, LibraryQuantizer, needs

if TYPE_CHECKING:
    from pytest_llmopt.core.requirements import Requirement

__all__ = ["Mxfp4"]


@dataclass(frozen=True)
class Mxfp4(LibraryQuantizer):
    """Experts in float4_e2m1, as gpt-oss has them; a model without experts stays as it is."""

    config_class: ClassVar[str] = "Mxfp4Config"

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """Triton and the package of kernels, as Transformers asks; a CPU would do with both, and Triton 3.5."""
        return (
            needs("triton>=3.4", "mxfp4"),
            needs(HUB_KERNELS, "mxfp4"),
        )

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """4 bits, made for weights that were trained so."""
        return AccuracyLimits(0.15, 0.82, 1.15, "arXiv:2509.23202: rounding Llama 3.1 8B to MXFP4 recovers 88 %")

    @property
    def bytes_per_weight(self) -> float:
        """Half a byte, and a byte for each 32."""
        return 0.5 + 1 / 32
