"""SpQR: 3-bit groups with quantized scales, and outliers kept apart in 16 bits."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Cuda, Requirement
from pytest_llmopt.optimizations.quantization._checkpoint_only import CheckpointOnlyQuantizer
from pytest_llmopt.optimizations.quantization._integrated import needs

__all__ = ["Spqr"]


@dataclass(frozen=True)
class Spqr(CheckpointOnlyQuantizer):
    """Linear layers of about 4 bits, outliers included; checkpoints only."""

    bits: int = 3
    beta1: int = 16
    """Width of a tile."""
    beta2: int = 16
    """Height of a tile."""

    def __post_init__(self) -> None:
        """Refuse what Transformers refuses."""
        one_of("bits", self.bits, (3,))
        one_of("beta1", self.beta1, (16,))
        one_of("beta2", self.beta2, (16,))

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """A GPU and the library, as Transformers asks."""
        return (
            Cuda(),
            needs("spqr_quant>=0.2", "spqr"),
        )

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """Near lossless, as it says."""
        return AccuracyLimits(
            0.05, 0.88, 1.05, "SpQR, arXiv:2306.03078, section 5: within 1 % at 4.6 bits, more below 4"
        )

    @property
    def bytes_per_weight(self) -> float:
        """3 bits, scales and zero points of 3 bits for each 16, and about 1 % outliers of 4 bytes."""
        return (3 + 2 * 3 / 16) / 8 + 0.01 * 4
