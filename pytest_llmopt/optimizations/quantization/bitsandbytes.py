"""bitsandbytes: LLM.int8() and the 4-bit types nf4 and fp4, quantized while loading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, one_of
from pytest_llmopt.core.requirements import Package, Requirement
from pytest_llmopt.core.values import NonNegative
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.optimizations.quantization._quantizer import Quantizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.weight_format import Codes

__all__ = ["BitsAndBytes"]

COMPUTE_DTYPES = (None, "float32", "bfloat16", "float16")
ONLY_AT = {"quant_type": 4, "double_quant": 4, "compute_dtype": 4, "threshold": 8}
"""The width at which an option has an effect."""


@dataclass(frozen=True)
class BitsAndBytes(Quantizer):
    """Linear layers in 4 or 8 bits; embeddings, norms and the head stay as they are."""

    config_names: ClassVar[Mapping[str, str]] = {
        "quant_type": "bnb_4bit_quant_type",
        "double_quant": "bnb_4bit_use_double_quant",
        "compute_dtype": "bnb_4bit_compute_dtype",
        "threshold": "llm_int8_threshold",
    }

    bits: int = 4
    quant_type: str = "nf4"
    """The 4-bit code book."""
    double_quant: bool = False
    """Quantize the 4-bit scales again."""
    compute_dtype: str | None = None
    """The dtype of the 4-bit matrix products; None takes the model's."""
    threshold: NonNegative = 6.0
    """Activations beyond it stay in 16 bits at 8 bits (LLM.int8(), section 3.2); 0 rounds them all."""

    def __post_init__(self) -> None:
        """Refuse values that the library does not have, and options that have no effect at this width."""
        one_of("bits", self.bits, (4, 8))
        one_of("quant_type", self.quant_type, ("nf4", "fp4"))
        one_of("compute_dtype", self.compute_dtype, COMPUTE_DTYPES)
        for name, bits in ONLY_AT.items():
            if bits != self.bits and getattr(self, name) != type(self).__dataclass_fields__[name].default:
                msg = f"{name}={getattr(self, name)!r} has no effect at bits={self.bits}; it belongs to bits={bits}"
                raise OptionError(msg)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library; it runs on a CPU too."""
        return (Package("bitsandbytes>=0.49", install="pip install 'pytest-llmopt[bitsandbytes]'"),)

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """8 bits close to the original; 4 bits without calibration within a few percent of perplexity."""
        if self.bits == 8:  # noqa: PLR2004 - bits
            return AccuracyLimits(0.002, 0.97, 1.01, "LLM.int8(), arXiv:2208.07339, table 1: perplexity as in 32 bits")
        if self.quant_type == "nf4":
            return AccuracyLimits(0.05, 0.90, 1.05, "QLoRA, arXiv:2305.14314, table 4: nf4 keeps the MMLU of 16 bits")
        return AccuracyLimits(0.10, 0.86, 1.10, "QLoRA, arXiv:2305.14314, table 4: fp4 one point of MMLU below nf4")

    @property
    def bytes_per_weight(self) -> float:
        """A byte; or half of one, with a scale in 32 bits for every 64, itself in 8 bits with `double_quant`."""
        if self.bits == 8:  # noqa: PLR2004 - bits
            return 1.0
        return 0.5 + (1 + 4 / 256 if self.double_quant else 4) / 64

    @property
    def activations(self) -> str | None:
        """What activations are rounded to while it runs: int8 at 8 bits, nothing at 4."""
        return "int8" if self.bits == 8 else None  # noqa: PLR2004 - bits

    @property
    def weight_format(self) -> WeightFormat:
        """One scale for each output at 8 bits, where products are made in float16; one for 64 weights at 4."""
        if self.bits == 8:  # noqa: PLR2004 - bits
            return WeightFormat(8, activations="int8", computes_in="float16")
        return WeightFormat(
            4,
            cast("Codes", self.quant_type),
            group_size=64,
            flattened=True,
            nested_scales=self.double_quant,
            computes_in=self.compute_dtype,
        )

    @classmethod
    def described_by(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """The width stands in two switches, and the options of the other width beside it."""
        bits = 8 if config.get("load_in_8bit") else 4 if config.get("load_in_4bit") else None
        # What the library takes where a config is silent.
        stated = {"bnb_4bit_quant_type": "fp4", "bnb_4bit_compute_dtype": "float32", **config}
        stated["bnb_4bit_compute_dtype"] = str(stated["bnb_4bit_compute_dtype"]).removeprefix("torch.")
        kept = {key: stated[key] for name, key in cls.config_names.items() if ONLY_AT[name] == bits and key in stated}
        return super().described_by({"bits": bits, **kept}, **options)
