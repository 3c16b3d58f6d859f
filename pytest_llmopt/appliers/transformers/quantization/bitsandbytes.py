"""LLM.int8() and 4 bits, quantized while loading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier
from pytest_llmopt.optimizations.quantization.bitsandbytes import COMPUTE_DTYPES

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Quantize while loading."""
    import torch
    from transformers import BitsAndBytesConfig

    dtype = options.compute_dtype or (plan.dtype if plan.dtype in COMPUTE_DTYPES else "bfloat16")
    config = (
        BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=float(options.threshold))
        if options.bits == 8  # noqa: PLR2004 - bits
        else BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=options.quant_type,
            bnb_4bit_use_double_quant=options.double_quant,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    )
    plan.set("load", "quantization_config", config, by="bitsandbytes")


applier = Applier(_apply)
