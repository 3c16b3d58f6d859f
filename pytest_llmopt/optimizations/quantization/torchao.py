"""torchao: weights in 1 to 8 bits or float8, with or without quantized activations, quantized while loading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Package, Requirement
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.optimizations.quantization._quantizer import Quantizer
from pytest_llmopt.optimizations.quantization._rounding import rounding_limits
from pytest_llmopt.optimizations.quantization._torchao import LAYOUTS, SCHEMES, Scheme, stated_by
from pytest_llmopt.optimizations.quantization._weight_claims import product_claim

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.claims import Claim, Use
    from pytest_llmopt.core.figures import Figures

__all__ = ["TorchAo"]


@dataclass(frozen=True)
class TorchAo(Quantizer):
    """Linear layers with weights of another tensor class; what an option leaves open, the scheme decides."""

    scheme: str = "int8_weight_only"
    bits: int | None = None
    """Of a weight: 1 to 8 in the intx schemes, 4 where nothing is said."""
    group_size: int | None = None
    """Input columns that share a scale; None takes the scheme's own, -1 asks for one scale to each output row."""
    symmetric: bool | None = None
    """No zero points, in the intx schemes; None takes the library's default, which has none."""
    layout: str = "auto"
    """How int4 weights are packed: `auto` takes `opaque` on a CPU and `tile_packed_to_4d` on a GPU."""

    def __post_init__(self) -> None:
        """Refuse what the scheme does not have."""
        one_of("scheme", self.scheme, tuple(SCHEMES))
        one_of("layout", self.layout, ("auto", *LAYOUTS))
        has = self._scheme
        one_of(f"bits of {self.scheme}", self.bits, (None, *has.bits))
        one_of(f"group_size of {self.scheme}", self.group_size, (None, *has.group_sizes))
        one_of(f"symmetric of {self.scheme}", self.symmetric, (None, True, False) if has.zero_points else (None,))
        if self.layout != "auto" and self.scheme != "int4_weight_only":
            msg = f"layout={self.layout!r} has no effect on {self.scheme}; it belongs to int4_weight_only"
            raise OptionError(msg)

    @property
    def _scheme(self) -> Scheme:
        return SCHEMES[self.scheme]

    @property
    def width(self) -> int:
        """Bits of a weight."""
        return self.bits or self._scheme.default_bits

    @property
    def group(self) -> int:
        """Input columns that share a scale; -1 for a whole row."""
        return self.group_size or self._scheme.group_sizes[0]

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library, and what the scheme or the layout needs beside it."""
        how = "pip install 'pytest-llmopt[torchao]'"
        return (Package("torchao>=0.15", install=how), *self._scheme.needs, *LAYOUTS.get(self.layout, ()))

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """By width; float8 has three bits of mantissa."""
        if self.scheme.startswith("float8") and self.width == 8:  # noqa: PLR2004 - bits
            return AccuracyLimits(0.005, 0.96, 1.01, "arXiv:2411.02355: W8A8-FP is effectively lossless")
        return rounding_limits(self.width)

    @property
    def bytes_per_weight(self) -> float:
        """Only int4 is packed: intx weights of fewer than 8 bits lie in a byte each."""
        return (0.5 if self.scheme.endswith("int4_weight_only") else 1.0) + self.scale_bytes_per_weight

    @property
    def scale_bytes_per_weight(self) -> float:
        """A scale and a zero point for each group."""
        return 0.0 if self.group < 0 else (4 if "int4" in self.scheme else 3) / self.group

    @property
    def activations(self) -> str | None:
        """What activations are rounded to while it runs."""
        return self._scheme.activations

    @property
    def weight_format(self) -> WeightFormat | None:
        """By scheme.

        None where activations are rounded to float8: nothing here has run that.
        """
        if self.activations == "float8":
            return None
        if self.scheme == "float8_weight_only":
            return WeightFormat(8, "fp8_e4m3")
        return WeightFormat(
            self.width,
            "affine" if self.scheme == "int4_weight_only" else "asymmetric" if self.symmetric is False else "symmetric",
            group_size="channel" if self.group < 0 else self.group,
            activations="int8" if self.activations == "int8" else None,
        )

    @property
    def figures(self) -> Figures:
        """By scheme."""
        return {"bits": self.width, "group": self.group if self.group > 0 else "channel"}

    def claims(self, use: Use) -> Sequence[Claim]:
        """Packed as promised, and, of int8, multiplied by the kernels of that format."""
        own = super().claims(use)
        return [*own, product_claim(use)] if self.scheme.startswith("int8") else own

    @classmethod
    def described_by(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """The scheme from the name of torchao's own config, the rest from its fields."""
        return cls(**{**stated_by(config), **options})
