"""Fine-grained FP8, as DeepSeek has it: float8 weights with a scale for each block of 128 x 128."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Cuda, Requirement
from pytest_llmopt.core.values import Count
from pytest_llmopt.optimizations.quantization._integrated import HUB_KERNELS, LibraryQuantizer, needs
from pytest_llmopt.optimizations.quantization._unpacked import (
    unpacked_claims,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.claims import Claim, Use


__all__ = ["Fp8"]


@dataclass(frozen=True)
class Fp8(LibraryQuantizer):
    """Linear layers in float8_e4m3fn; without a GPU Transformers gives a checkpoint's weights back unpacked."""

    config_class: ClassVar[str] = "FineGrainedFP8Config"
    loading_options: ClassVar[frozenset[str]] = frozenset({"dequantize"})

    block_rows: Count = 128
    block_columns: Count = 128
    activation_scheme: str = "dynamic"
    scale_fmt: str = "float"
    """Scales of 4 bytes, or `ue8m0`: powers of two in one."""
    dequantize: bool = False
    """Unpack a checkpoint while loading, as a CPU must."""

    def __post_init__(self) -> None:
        """Refuse what Transformers refuses."""
        one_of("activation_scheme", self.activation_scheme, ("dynamic", "static"))
        one_of("scale_fmt", self.scale_fmt, ("float", "ue8m0"))

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """A GPU of capability 8.9, as Transformers asks, whose kernels need a package too; none to unpack."""
        return () if self.dequantize else (Cuda(capability=(8, 9)), needs(HUB_KERNELS, "fp8"))

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """8-bit floats in blocks."""
        return AccuracyLimits(
            0.01, 0.95, 1.02, "DeepSeek-V3, arXiv:2412.19437, section 3.3: training in FP8 within 0.25 % of the loss"
        )

    @property
    def bytes_per_weight(self) -> float:
        """A byte, and a scale for each block."""
        return 1 + (4 if self.scale_fmt == "float" else 1) / (self.block_rows * self.block_columns)

    @property
    def activations(self) -> str | None:
        """None where weights are unpacked."""
        return None if self.dequantize else "float8_e4m3fn"

    def config(self) -> dict[str, Any]:
        """The block as one argument."""
        values = super().config()
        return {"weight_block_size": (values.pop("block_rows"), values.pop("block_columns"))} | values

    def claims(self, use: Use) -> Sequence[Claim]:
        """A small file, and weights in memory that are what it decodes to, where they are unpacked."""
        return unpacked_claims(use, self.bytes_per_weight) if self.dequantize else super().claims(use)

    @classmethod
    def described_by(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """The block of a checkpoint."""
        rows, columns = config.get("weight_block_size") or (128, 128)
        return super().described_by({**config, "block_rows": rows, "block_columns": columns}, **options)
