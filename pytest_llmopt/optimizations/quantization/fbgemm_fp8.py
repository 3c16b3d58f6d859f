"""FBGEMM: float8 weights with a scale for each output row, activations with one for each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_llmopt.core.optimization import AccuracyLimits
from pytest_llmopt.core.requirements import Cuda, Requirement
from pytest_llmopt.core.values import Positive
from pytest_llmopt.optimizations.quantization._integrated import LibraryQuantizer, needs

__all__ = ["FbgemmFp8"]


@dataclass(frozen=True)
class FbgemmFp8(LibraryQuantizer):
    """Linear layers in float8_e4m3fn, run by FBGEMM on Hopper."""

    config_class: ClassVar[str] = "FbgemmFp8Config"

    activation_scale_ub: Positive = 1200.0
    """Activations beyond it do not raise the scale."""

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """A GPU of capability 9.0, then the library, as Transformers asks."""
        return (
            Cuda(capability=(9, 0)),
            needs("fbgemm-gpu-genai>=1.2", "fbgemm_fp8", module="fbgemm_gpu"),
        )

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """8-bit floats."""
        return AccuracyLimits(
            0.01, 0.95, 1.02, "Llama 3, arXiv:2407.21783, section 6.2: row-wise FP8 of feedforward layers hardly shows"
        )

    @property
    def bytes_per_weight(self) -> float:
        """A byte."""
        return 1.0

    @property
    def activations(self) -> str | None:
        """Dynamic, for each token."""
        return "float8_e4m3fn"
