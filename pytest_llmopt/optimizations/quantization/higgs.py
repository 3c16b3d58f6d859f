"""HIGGS: a Hadamard rotation, then a grid that is optimal for normal values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Cuda, Requirement
from pytest_llmopt.core.values import Count
from pytest_llmopt.optimizations.quantization._integrated import LibraryQuantizer, needs

__all__ = ["Higgs"]


@dataclass(frozen=True)
class Higgs(LibraryQuantizer):
    """Linear layers in 2 to 4 bits, quantized while loading."""

    config_class: ClassVar[str] = "HiggsConfig"

    bits: int = 4
    p: int = 2
    """Weights that a code stands for."""
    group_size: int = 256
    hadamard_size: Count = 512
    """Channels that are rotated together."""

    def __post_init__(self) -> None:
        """Refuse what Transformers refuses.

        Raises:
            OptionError: the groups do not divide what is rotated together.
        """
        one_of("bits", self.bits, (2, 3, 4))
        one_of("p", self.p, (1, 2))
        one_of("group_size", self.group_size, (64, 128, 256))
        if self.hadamard_size % self.group_size:
            msg = f"group_size={self.group_size} does not divide hadamard_size={self.hadamard_size}"
            raise OptionError(msg)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """A GPU, FLUTE and the Hadamard kernel, as Transformers 5.23.0 asks."""
        return (
            Cuda(),
            needs("flute-kernel>=0.4.1", "higgs", module="flute"),
            needs("fast_hadamard_transform", "higgs"),
        )

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """By width."""
        kl, top1, ratio = {4: (0.06, 0.88, 1.06), 3: (0.20, 0.75, 1.20), 2: (0.60, 0.55, 1.80)}[self.bits]
        return AccuracyLimits(kl, top1, ratio, "HIGGS, arXiv:2411.17525: at 4 bits ahead of nf4, without calibration")

    @property
    def bytes_per_weight(self) -> float:
        """The codes, and a scale in 16 bits for each group."""
        return self.bits / 8 + 2 / self.group_size
