"""compressed-tensors: the checkpoints of llm-compressor and vLLM, and small ones rounded to nearest here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Package, Requirement
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.optimizations.quantization._calibrated import CalibratedQuantizer
from pytest_llmopt.optimizations.quantization._unpacked import STORED, unpacked_claims

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_llmopt.core.applying import ModelSource
    from pytest_llmopt.core.claims import Claim, Use
    from pytest_llmopt.core.figures import Figures


__all__ = ["CompressedTensors"]

SCHEMES = {
    # By scheme: weight bits, weights to a scale (0: an output row, -1: a tensor), activations, formats.
    "W4A16": (4, 128, None, ("pack-quantized", "naive-quantized", "dense")),
    "W8A16": (8, 128, None, ("pack-quantized", "int-quantized", "naive-quantized", "dense")),
    "W8A8": (8, 0, "int8", ("int-quantized", "naive-quantized", "dense")),
    "FP8": (8, -1, "float8_e4m3fn", ("float-quantized", "naive-quantized", "dense")),
    "FP8_DYNAMIC": (8, 0, "float8_e4m3fn", ("float-quantized", "naive-quantized", "dense")),
    "FP8_BLOCK": (8, 128 * 128, "float8_e4m3fn", ("float-quantized", "naive-quantized", "dense")),
}


@dataclass(frozen=True)
class CompressedTensors(CalibratedQuantizer):
    """A scheme of weights and activations, in the files; Transformers unpacks the weights in its first forward pass."""

    packages: ClassVar[tuple[str, ...]] = ("compressed-tensors", "transformers")

    scheme: str = "W8A8"
    """Bits of weights and of activations, as llm-compressor names them."""
    group_size: int | None = None
    """Input columns that share a scale, for W4A16 and W8A16; None takes the scheme's 128."""
    format: str | None = None
    """How the file holds the weights; None takes the scheme's own."""

    def __post_init__(self) -> None:
        """Refuse values that the scheme does not have.

        Raises:
            OptionError: the scheme has no groups, or needs no calibration.
        """
        one_of("scheme", self.scheme, tuple(SCHEMES))
        one_of("format", self.format, (None, *SCHEMES[self.scheme][3]))
        if self.group_size is not None:
            if not self.scheme.endswith("A16"):
                msg = f"group_size={self.group_size!r} is not possible with scheme={self.scheme!r}; it has no groups"
                raise OptionError(msg)
            one_of("group_size", self.group_size, (16, 32, 64, 128, 256))
        for name in ("calibration", "num_prompts"):
            if getattr(self, name) and self.scheme != "FP8":
                msg = f"{name}={getattr(self, name)!r} has no effect with scheme={self.scheme!r}; only FP8 calibrates"
                raise OptionError(msg)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library; it runs on a CPU too."""
        return (Package("compressed-tensors>=0.15", install="pip install 'pytest-llmopt[compressed-tensors]'"),)

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """By scheme; rounded to nearest, which costs more than GPTQ at 4 bits."""
        if self.scheme == "W4A16":
            source = "arXiv:2411.02355: W4A16 rivals 8 bits with GPTQ; rounding loses more (arXiv:2306.00978, table 4)"
            return AccuracyLimits(0.10, 0.86, 1.10, source)
        if self.scheme == "W8A16":
            return AccuracyLimits(0.002, 0.97, 1.01, "k-bit scaling laws, arXiv:2212.09720: 8-bit weights near 16")
        if self.scheme == "W8A8":
            return AccuracyLimits(0.01, 0.95, 1.02, "arXiv:2411.02355: W8A8-INT loses 1-3 % of accuracy")
        return AccuracyLimits(0.01, 0.95, 1.02, "arXiv:2411.02355: W8A8-FP is effectively lossless")

    @property
    def group(self) -> int:
        """Weights that share a scale; 0 for an output row, -1 for a tensor."""
        return self.group_size or SCHEMES[self.scheme][1]

    @property
    def bytes_per_weight(self) -> float:
        """In the file: the code, and a scale in 16 bits for each group; 16 bits where the format is dense."""
        if self.format == "dense":
            return 2.0
        bits = 8 if self.format in {"int-quantized", "naive-quantized"} else SCHEMES[self.scheme][0]
        return bits / 8 + (2 / self.group if self.group > 0 else 0)

    @property
    def calibration_texts(self) -> list[str]:
        """Only fixed scales of activations come from text."""
        return super().calibration_texts if self.scheme == "FP8" else []

    @property
    def activations(self) -> str | None:
        """By scheme."""
        return SCHEMES[self.scheme][2]

    @property
    def figures(self) -> Figures:
        """By scheme; a block is no row of columns."""
        named: dict[int, str] = {0: "channel", -1: "tensor", 128 * 128: "128x128"}
        return {"bits": SCHEMES[self.scheme][0], "group": named.get(self.group, self.group)}

    @property
    def weight_format(self) -> WeightFormat | None:
        """By scheme.

        None of FP8, where the scales of activations are fixed by text, and of FP8_BLOCK, where outputs share scales.
        """
        if self.scheme in {"FP8", "FP8_BLOCK"}:
            return None
        if self.scheme == "FP8_DYNAMIC":
            return WeightFormat(8, "fp8_e4m3", activations="fp8_e4m3")
        return WeightFormat(
            SCHEMES[self.scheme][0],
            group_size=self.group or "channel",
            activations="int8" if self.scheme == "W8A8" else None,
        )

    def claims(self, use: Use) -> Sequence[Claim]:
        """A small file, and weights in memory that are values of the format: no memory is saved on a CPU."""
        claims = unpacked_claims(use, self.bytes_per_weight)
        return [claim for claim in claims if claim.name != STORED] if self.format == "dense" else claims

    @classmethod
    def described_by(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """The scheme that the first config group amounts to.

        Raises:
            OptionError: there is no such scheme here.
        """
        groups: dict[str, Any] = config.get("config_groups") or {}
        group: dict[str, Any] = next(iter(groups.values()), {})
        weights, inputs = group.get("weights") or {}, group.get("input_activations")
        size = weights.get("group_size") if weights.get("strategy") == "group" else None
        if weights.get("type") == "float":
            kind = "" if not inputs or not inputs.get("dynamic") else "_DYNAMIC"
            scheme = f"FP{weights.get('num_bits')}" + ("_BLOCK" if weights.get("strategy") == "block" else kind)
        else:
            scheme = f"W{weights.get('num_bits')}A{inputs['num_bits'] if inputs else 16}"
        stated = {"scheme": scheme, "group_size": size, "format": config.get("format")}
        return cls(**{**stated, **options})

    def quantize(self, plan: ModelSource, folder: Path) -> None:
        """Rounded to nearest by the library's own quantizing, with the largest value of each group as its scale."""
        from pytest_llmopt.optimizations.quantization._compressing import compress

        texts = self.calibration_texts
        compress(plan, folder, self.scheme, texts, group_size=self.group_size, file_format=self.format)
