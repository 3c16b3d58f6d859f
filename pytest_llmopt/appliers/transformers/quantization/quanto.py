"""Quantized while loading; with activations after it, by the library itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.optimizations.quantization._calibrated import calibration_file
from pytest_llmopt.optimizations.quantization._quantizer import refuse_saving
from pytest_llmopt.optimizations.quantization.quanto import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Quantize while loading; with activations afterwards, by the library itoptions, as Transformers says to."""
    if options.activations is None:
        from transformers import QuantoConfig

        plan.set("load", "quantization_config", QuantoConfig(weights=options.weights), by="quanto")
    else:
        plan.after_load.append(_calibrator(options, plan))


def _load(options: Any, plan: LoadPlan) -> None:
    """Quantize activations as well where a config asks for it, which Transformers refuses to."""
    if options.activations is not None:
        plan.load.pop("quantization_config", None)
        _apply(options, plan)


def _calibrator(options: Any, plan: LoadPlan) -> Callable[[Any], None]:
    def quantize_all(model: Any) -> None:
        import torch
        from optimum.quanto import Calibration, freeze, quantize
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(plan.model, local_files_only=not plan.policy.download)
        head = [name for name, module in model.named_modules() if module is model.get_output_embeddings()]
        quantize(model, weights=f"q{options.weights}", activations=f"q{options.activations}", exclude=head)
        with torch.no_grad(), Calibration():
            for prompt in PromptSet.load(calibration_file(options.calibration)).take(SAMPLES):
                model(tokenizer(prompt.text, return_tensors="pt").input_ids.to(model.device))
        freeze(model)
        refuse_saving(model, "Transformers cannot load activations that quanto has calibrated")

    return quantize_all


applier = Applier(_apply, _load)
