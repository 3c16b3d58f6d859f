"""FP-Quant: MXFP4 or NVFP4 after a Hadamard rotation of each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Cuda, Package, Requirement
from pytest_llmopt.optimizations.quantization._integrated import LibraryQuantizer, needs

__all__ = ["FpQuant"]


@dataclass(frozen=True)
class FpQuant(LibraryQuantizer):
    """Linear layers and their inputs in float4_e2m1."""

    config_class: ClassVar[str] = "FPQuantConfig"

    forward_dtype: str = "nvfp4"
    forward_method: str = "abs_max"
    """How scales are chosen."""
    hadamard_group_size: int | None = None
    """Channels that are rotated together; None takes 16 for nvfp4 and 32 for mxfp4."""
    pseudoquantization: bool = False
    """Emulate it, on a GPU that has no FP4 tensor cores."""

    def __post_init__(self) -> None:
        """Refuse what Transformers refuses."""
        one_of("forward_dtype", self.forward_dtype, ("nvfp4", "mxfp4"))
        nvfp4 = self.forward_dtype == "nvfp4"
        one_of("forward_method", self.forward_method, ("abs_max",) if nvfp4 else ("abs_max", "quest"))
        one_of("hadamard_group_size", self.hadamard_group_size, (None, *((16,) if nvfp4 else ()), 32, 64, 128))

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """Blackwell and QuTLASS, or a recent GPU to emulate it, as Transformers 5.23.0 asks."""
        return (
            *self._hardware,
            needs("fp_quant>=0.3.2", "fp_quant"),
        )

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """4 bits without calibration."""
        return AccuracyLimits(0.15, 0.82, 1.15, "arXiv:2509.23202: Llama 3.1 8B, rotated: MXFP4 89 %, NVFP4 94 %")

    @property
    def bytes_per_weight(self) -> float:
        """Half a byte, and a scale of a byte for each 16 or 32."""
        return 0.5 + 1 / (16 if self.forward_dtype == "nvfp4" else 32)

    @property
    def activations(self) -> str | None:
        """As the weights."""
        return self.forward_dtype

    @property
    def _hardware(self) -> tuple[Requirement, ...]:
        if self.pseudoquantization:
            return (Cuda(capability=(9, 0) if self.forward_dtype == "nvfp4" else (8, 0)),)
        how = "git clone https://github.com/IST-DASLab/qutlass && pip install --no-build-isolation ./qutlass"
        return (Cuda(capability=(10, 0)), Package("qutlass>=0.2", install=how))
