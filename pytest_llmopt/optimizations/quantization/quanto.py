"""optimum-quanto: weights in int8, int4, int2 or float8, and activations in 8 bits after a calibration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Compiler, Package, Requirement
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.optimizations.quantization._quantizer import Quantizer
from pytest_llmopt.optimizations.quantization._rounding import rounding_limits

if TYPE_CHECKING:
    from pytest_llmopt.core.figures import Figures

__all__ = ["Quanto"]

BITS = {"int8": 8, "float8": 8, "int4": 4, "int2": 2}
SAMPLES = 16
"""Prompts to calibrate with: scales settle within a few, and each takes seconds on a CPU."""
GROUPS = (128, 96, 64, 32)
"""Input columns that share a scale at int4 and int2: the first that divides them, or all of a row."""


@dataclass(frozen=True)
class Quanto(Quantizer):
    """Linear layers with quantized weights, and with activations in 8 bits by scales fixed beforehand, if asked."""

    weights: str = "int8"
    activations: str | None = None
    """What inputs and outputs of the layers are rounded to, by a scale for each tensor found by calibration."""
    calibration: str = field(default="", kw_only=True)
    """JSON Lines file of calibration prompts for activations; empty takes those that ship with the package."""

    def __post_init__(self) -> None:
        """Refuse values that the library does not have, and calibration of what is not quantized."""
        one_of("weights", self.weights, tuple(BITS))
        one_of("activations", self.activations, (None, "int8", "float8"))
        if self.calibration and self.activations is None:
            msg = f"calibration={self.calibration!r} has no effect on weights; it belongs to activations='int8'"
            raise OptionError(msg)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library, and for packed weights what it compiles its unpacking with, on a CPU."""
        how = "pip install 'pytest-llmopt[quanto]'"
        package = Package("optimum-quanto>=0.2.6", module="optimum.quanto", install=how)
        return (package, Compiler(ninja=True)) if BITS[self.weights] < 8 else (package,)  # noqa: PLR2004 - bits

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """By width; activations by one scale for each tensor cost more than weights."""
        if self.weights in {"int8", "float8"} and (self.activations or self.weights == "float8"):
            return AccuracyLimits(0.02, 0.93, 1.02, "SmoothQuant, arXiv:2211.10438: static scales by tensor cost more")
        return rounding_limits(BITS[self.weights])

    @property
    def bytes_per_weight(self) -> float:
        """The code, and at int4 and int2 a scale and a shift for each group."""
        return BITS[self.weights] / 8 + self.scale_bytes_per_weight

    @property
    def scale_bytes_per_weight(self) -> float:
        """Both in the model's dtype."""
        return 4 / GROUPS[0] if BITS[self.weights] < 8 else 0.0  # noqa: PLR2004 - bits

    @property
    def weight_format(self) -> WeightFormat | None:
        """8 bits by output, fewer in groups between their extremes.

        None with activations, whose scales are fixed by text: inputs of our choice are clipped by them.
        """
        if self.activations is not None:
            return None
        if self.weights == "float8":
            return WeightFormat(8, "fp8_e4m3")
        return WeightFormat(8) if self.weights == "int8" else WeightFormat(BITS[self.weights], "affine", GROUPS)

    @property
    def figures(self) -> Figures:
        """Groups at int4 and int2 only."""
        bits = BITS[self.weights]
        return {"bits": bits, "group": GROUPS[0] if bits < 8 else "channel"}  # noqa: PLR2004 - bits
