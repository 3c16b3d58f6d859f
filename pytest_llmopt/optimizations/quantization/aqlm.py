"""AQLM: groups of weights as sums of vectors from learned code books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmopt.core.optimization import AccuracyLimits
from pytest_llmopt.core.values import Count
from pytest_llmopt.optimizations.quantization._checkpoint_only import CheckpointOnlyQuantizer
from pytest_llmopt.optimizations.quantization._integrated import needs

if TYPE_CHECKING:
    from pytest_llmopt.core.requirements import Requirement

__all__ = ["Aqlm"]


@dataclass(frozen=True)
class Aqlm(CheckpointOnlyQuantizer):
    """Linear layers of about 2 bits; checkpoints only."""

    in_group_size: Count = 8
    """Input columns that a code stands for."""
    out_group_size: Count = 1
    """Output rows that a code stands for."""
    num_codebooks: Count = 1
    nbits_per_codebook: Count = 16

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library; its kernels for a CPU need numba."""
        return (needs("aqlm>=1.1.6", "aqlm"),)

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """About 2 bits."""
        return AccuracyLimits(0.40, 0.65, 1.40, "AQLM, arXiv:2401.06118, table 1: Llama 2 7B at 2.02 bits 6.6 for 5.12")

    @property
    def bytes_per_weight(self) -> float:
        """The codes; code books and scales weigh little on large layers."""
        return self.num_codebooks * self.nbits_per_codebook / (8 * self.in_group_size * self.out_group_size)
