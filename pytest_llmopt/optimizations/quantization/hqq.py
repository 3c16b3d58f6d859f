"""HQQ: half-quadratic quantization of weights, without calibration, by the library itself after loading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Cuda, Package, Requirement
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.optimizations.quantization._quantizer import Quantizer
from pytest_llmopt.optimizations.quantization._rounding import rounding_limits
from pytest_llmopt.optimizations.quantization._shapes import bytes_beside_codes, share_a_scale

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Hqq"]

BYTES = {8: 1.0, 6: 1.0, 5: 1.0, 4: 0.5, 3: 0.4, 2: 0.25, 1: 0.125}
"""Of a code: 5 and 6 bits take a byte each, and ten codes of 3 bits one int32."""
BACKENDS: dict[str, tuple[Requirement, ...]] = {
    "pytorch": (),
    "aten": (Cuda(), Package("hqq-aten", module="hqq_aten")),
    "torchao_int4": (Cuda(capability=(8, 0)), Package("torchao")),
    "gemlite": (Cuda(capability=(8, 0)), Package("gemlite")),
    "bitblas": (Cuda(capability=(8, 0)), Package("bitblas")),
}


@dataclass(frozen=True)
class Hqq(Quantizer):
    """Linear layers in 1 to 8 bits with a scale and a zero point for each group, both fitted to the weights alone."""

    loading_options: ClassVar[frozenset[str]] = frozenset({"backend"})

    bits: int = 4
    group_size: int = 64
    """Weights that share a scale; -1 for one scale to each row (or column, along axis 0)."""
    axis: int = 1
    """Groups run along the columns (inputs) of a row, or with 0 along the rows of a column."""
    backend: str = "pytorch"
    """The kernel that runs it."""

    def __post_init__(self) -> None:
        """Refuse values that the library does not have."""
        one_of("bits", self.bits, tuple(BYTES))
        one_of("axis", self.axis, (0, 1))
        one_of("backend", self.backend, tuple(BACKENDS))
        if self.group_size != -1 and (self.group_size < 1 or self.group_size % 8):
            msg = f"group_size={self.group_size!r} is not possible; allowed: -1 and multiples of 8"
            raise OptionError(msg)
        wanted = {"aten": (None, 0), "torchao_int4": (4, 1)}.get(self.backend, (None, None))
        for name, value in zip(("bits", "axis"), wanted, strict=True):
            if value is not None and getattr(self, name) != value:
                msg = f"backend={self.backend!r} needs {name}={value}, not {name}={getattr(self, name)}"
                raise OptionError(msg)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library, and that of the kernel."""
        return (Package("hqq>=0.2.1", install="pip install 'pytest-llmopt[hqq]'"), *BACKENDS[self.backend])

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """Those of rounding, which fitting the scales must not make worse."""
        return rounding_limits(self.bits)

    @property
    def bytes_per_weight(self) -> float:
        """The code, and for each group a scale and a zero point."""
        return BYTES[self.bits] + self.scale_bytes_per_weight

    @property
    def scale_bytes_per_weight(self) -> float:
        """Both in the model's dtype."""
        return bytes_beside_codes(self.group_size, 4)

    @property
    def weight_format(self) -> WeightFormat | None:
        """Steps as wide as the extremes of a group ask for, from an offset that is fitted to it.

        None along axis 0, where a group is made of outputs that lie far apart.
        """
        if self.axis == 0:
            return None
        return WeightFormat(self.bits, "fitted", group_size=share_a_scale(self.group_size))

    @classmethod
    def described_by(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """The options lie two levels down, and the library calls some of them otherwise."""
        inner = config.get("quant_config", {}).get("weight_quant_params", config)
        names = {"bits": "nbits", "group_size": "group_size", "axis": "axis"}
        stated = {name: inner[key] for name, key in names.items() if key in inner}
        if stated.get("group_size", 0) is None:
            stated["group_size"] = -1
        return cls(**{**stated, **options})
