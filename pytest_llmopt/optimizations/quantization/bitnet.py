"""BitNet b1.58: models trained with weights of -1, 0 and 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.optimizations.quantization._checkpoint_only import CheckpointOnlyQuantizer

if TYPE_CHECKING:
    from pytest_llmopt.core.requirements import Requirement

__all__ = ["BitNet"]


@dataclass(frozen=True)
class BitNet(CheckpointOnlyQuantizer):
    """Linear layers of ternary weights, four to a byte; checkpoints only, since training makes them."""

    linear_class: str = "bitlinear"
    quantization_mode: str = "offline"
    """`online` keeps the master weights and rounds them in every forward pass."""
    use_rms_norm: bool = False

    def __post_init__(self) -> None:
        """Refuse what Transformers refuses."""
        one_of("linear_class", self.linear_class, ("bitlinear", "autobitlinear"))
        one_of("quantization_mode", self.quantization_mode, ("offline", "online"))

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """A compiler on a CPU: Transformers compiles the unpacking."""
        return ()

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """Against the same ternary model: its weights are exact, and activations are in 8 bits on both sides."""
        return AccuracyLimits(
            0.01, 0.95, 1.02, "BitNet b1.58, arXiv:2402.17764, section 2: trained in ternary, so exact"
        )

    @property
    def bytes_per_weight(self) -> float:
        """A quarter; ternary weights unpacked in memory with `autobitlinear`, which takes two bytes."""
        return 0.25 if self.linear_class == "bitlinear" else 2.0

    @property
    def activations(self) -> str | None:
        """For each token."""
        return "int8"
