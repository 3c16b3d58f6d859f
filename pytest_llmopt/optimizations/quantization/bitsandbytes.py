"""bitsandbytes: LLM.int8() and the 4-bit types nf4 and fp4, quantized while loading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from pytest_llmopt.core.optimization import AccuracyLimits, LoadPlan, Optimization, Promise, one_of
from pytest_llmopt.core.requirements import Package, Requirement
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.optimizations.quantization._claims import weight_claims

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.inspection import Claim, Use
    from pytest_llmopt.core.weight_format import Codes

__all__ = ["BitsAndBytes"]

COMPUTE_DTYPES = (None, "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class BitsAndBytes(Optimization):
    """Linear layers in 4 or 8 bits; embeddings, norms and the head stay as they are."""

    promise: ClassVar[Promise] = Promise.ACCURATE

    bits: int = 4
    quant_type: str = "nf4"
    """The 4-bit code book; without effect at 8 bits."""
    double_quant: bool = False
    """Quantize the 4-bit scales again."""
    compute_dtype: str | None = None
    """The dtype of the 4-bit matrix products; None takes the model's."""
    threshold: float = 6.0
    """Activations beyond it stay in 16 bits at 8 bits (LLM.int8(), section 3.2)."""

    def __post_init__(self) -> None:
        """Refuse values that the library does not have."""
        one_of("bits", self.bits, (4, 8))
        one_of("quant_type", self.quant_type, ("nf4", "fp4"))
        one_of("compute_dtype", self.compute_dtype, COMPUTE_DTYPES)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library; it runs on a CPU too."""
        return (Package("bitsandbytes>=0.49", install="pip install 'pytest-llmopt[bitsandbytes]'"),)

    @property
    def conflicts(self) -> Mapping[str, str]:
        """No other quantizer."""
        return {"quantization": "a model is quantized once"}

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """8 bits close to the original; 4 bits without calibration within a few percent of perplexity."""
        if self.bits == 8:  # noqa: PLR2004 - bits
            return AccuracyLimits(0.002, 0.97, 1.01, "LLM.int8(), arXiv:2208.07339, table 1: no measurable degradation")
        if self.quant_type == "nf4":
            return AccuracyLimits(0.05, 0.90, 1.05, "QLoRA, arXiv:2305.14314, table 4: nf4 within 0.2 of perplexity")
        return AccuracyLimits(0.10, 0.86, 1.10, "QLoRA, arXiv:2305.14314, table 4: fp4 twice the loss of nf4")

    @property
    def activations(self) -> str | None:
        """What activations are rounded to while it runs: int8 at 8 bits, nothing at 4."""
        return "int8" if self.bits == 8 else None  # noqa: PLR2004 - bits

    @property
    def weight_format(self) -> WeightFormat:
        """One scale for each output at 8 bits, where products are made in float16; one for 64 weights at 4."""
        if self.bits == 8:  # noqa: PLR2004 - bits
            return WeightFormat(8, activations="int8", computes_in="float16")
        return WeightFormat(4, cast("Codes", self.quant_type), group_size=64, computes_in=self.compute_dtype)

    def claims(self, use: Use) -> Sequence[Claim]:
        """Half a byte a weight and a scale for every 64, or a byte a weight."""
        if self.bits == 8:  # noqa: PLR2004 - bits
            return weight_claims(use, 1.0)
        return weight_claims(use, 0.516 if self.double_quant else 0.5625)

    def for_transformers(self, plan: LoadPlan) -> None:
        """Quantize while loading."""
        import torch
        from transformers import BitsAndBytesConfig

        dtype = self.compute_dtype or (plan.dtype if plan.dtype in COMPUTE_DTYPES else "bfloat16")
        config = (
            BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=self.threshold)
            if self.bits == 8  # noqa: PLR2004 - bits
            else BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=self.quant_type,
                bnb_4bit_use_double_quant=self.double_quant,
                bnb_4bit_compute_dtype=getattr(torch, dtype),
            )
        )
        plan.set("load", "quantization_config", config, by="bitsandbytes")
