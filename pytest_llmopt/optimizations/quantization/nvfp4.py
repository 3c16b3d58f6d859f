"""NVFP4: 4-bit floats, 16 to a float8 scale, on the tensor cores of Blackwell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_llmopt.core.optimization import AccuracyLimits
from pytest_llmopt.core.requirements import Cuda, Requirement
from pytest_llmopt.optimizations.quantization._integrated import HUB_KERNELS, LibraryQuantizer, needs

__all__ = ["Nvfp4"]


@dataclass(frozen=True)
class Nvfp4(LibraryQuantizer):
    """Linear layers in float4_e2m1, quantized while loading."""

    config_class: ClassVar[str] = "NVFP4Config"

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """A GPU of capability 10.0 and the package of kernels, as Transformers asks."""
        return (
            needs(HUB_KERNELS, "nvfp4"),
            Cuda(capability=(10, 0)),
        )

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """4 bits without calibration."""
        return AccuracyLimits(0.12, 0.85, 1.12, "arXiv:2509.23202: rounding Llama 3.1 8B to NVFP4 recovers 95 %")

    @property
    def bytes_per_weight(self) -> float:
        """Half a byte, and a byte for each 16."""
        return 0.5 + 1 / 16

    @property
    def activations(self) -> str | None:
        """With a scale for each 16."""
        return "nvfp4"
