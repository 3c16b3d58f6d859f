"""Fine-grained FP8, quantized while loading; or a checkpoint, unpacked where that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.appliers.transformers.quantization.integrated import applier as integrated
from pytest_llmopt.core.applying import Applier
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.optimizations.quantization._unpacked import ON_GRID, STORED, as_stored, stored_bytes_per_weight

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Quantize while loading.

    Raises:
        OptionError: there is no checkpoint to unpack.
    """
    if options.dequantize:
        msg = "dequantize=True unpacks a checkpoint: write quantized('fp8', checkpoint=..., dequantize=True)"
        raise OptionError(msg)
    integrated.apply(options, plan)


def _load(options: Any, plan: LoadPlan) -> None:
    """Unpack it where that is asked for, and look at the file and at the weights."""
    if options.dequantize:
        from transformers import FineGrainedFP8Config

        weights = plan.weights or plan.model
        plan.set("load", "quantization_config", FineGrainedFP8Config(dequantize=True), by="fp8")
        plan.measure[STORED] = lambda model: stored_bytes_per_weight(model, weights)
        plan.measure[ON_GRID] = lambda model: as_stored(model, weights, (options.block_rows, options.block_columns))


applier = Applier(_apply, _load)
