"""SINQ: a scale for each row and each column, found by balancing their spread; no calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Cuda, Requirement
from pytest_llmopt.core.values import Count
from pytest_llmopt.optimizations.quantization._integrated import LibraryQuantizer, needs

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["Sinq"]


@dataclass(frozen=True)
class Sinq(LibraryQuantizer):
    """Linear layers in 2 to 8 bits, quantized while loading."""

    config_class: ClassVar[str] = "SinqConfig"
    config_names: ClassVar[Mapping[str, str]] = {"bits": "nbits"}

    bits: int = 4
    group_size: Count = 64
    tiling_mode: str = "1D"

    def __post_init__(self) -> None:
        """Refuse values that the method does not have.

        Raises:
            OptionError: a group that is no multiple of 8.
        """
        one_of("bits", self.bits, (2, 3, 4, 5, 6, 8))
        one_of("tiling_mode", self.tiling_mode, ("1D", "2D"))
        if self.group_size % 8:
            msg = f"group_size={self.group_size!r} is not possible; allowed: multiples of 8"
            raise OptionError(msg)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library, and a GPU: on a CPU version 0.2.0 loads and then says that the model was not quantized."""
        return (
            Cuda(),
            needs("sinq>=0.2", "sinq"),
        )

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """By width."""
        least = max(item for item in (2, 3, 4, 8) if item <= self.bits)
        kl, top1, ratio = {8: (0.005, 0.96, 1.01), 4: (0.06, 0.88, 1.06), 3: (0.25, 0.72, 1.25), 2: (1.0, 0.45, 3.0)}[
            least
        ]
        return AccuracyLimits(kl, top1, ratio, "SINQ, arXiv:2509.22944, table 1: perplexity of Qwen3 at 3 and 4 bits")

    @property
    def bytes_per_weight(self) -> float:
        """The codes, and a scale and a zero point in 16 bits for each group."""
        return self.bits / 8 + 4 / self.group_size
