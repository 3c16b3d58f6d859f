"""Quark: AMD's quantizer, with many number formats in one config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.optimizations.quantization._checkpoint_only import CheckpointOnlyQuantizer
from pytest_llmopt.optimizations.quantization._integrated import needs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.requirements import Requirement

__all__ = ["Quark"]

BITS = {"int8": 8, "uint8": 8, "fp8_e4m3": 8, "fp8_e5m2": 8, "int4": 4, "uint4": 4, "fp4": 4, "mx": 4, "mxfp4": 4}


@dataclass(frozen=True)
class Quark(CheckpointOnlyQuantizer):
    """Linear layers as the checkpoint says; checkpoints only."""

    dtype: str = "int8"
    """Of the weights."""

    def __post_init__(self) -> None:
        """Refuse formats whose size is not known here."""
        one_of("dtype", self.dtype, tuple(BITS))

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library; it can run on a CPU."""
        return (needs("amd-quark>=0.12", "quark", module="quark"),)

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """By width."""
        if BITS[self.dtype] >= 8:  # noqa: PLR2004 - bits
            return AccuracyLimits(0.01, 0.95, 1.02, "arXiv:2411.02355: FP8 is lossless, INT8 loses 1-3 %")
        return AccuracyLimits(0.10, 0.86, 1.10, "arXiv:2411.02355: W4A16 rivals 8 bits; wider, for other formats")

    @property
    def bytes_per_weight(self) -> float:
        """The codes."""
        return BITS[self.dtype] / 8

    @classmethod
    def described_by(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """By the weights of its global config."""
        weight = (config.get("global_quant_config") or {}).get("weight") or {}
        first = weight[0] if isinstance(weight, list) else weight
        return cls(**({"dtype": first["dtype"]} if "dtype" in first else {}), **options)
