"""Quantized after loading, by the library itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier
from pytest_llmopt.core.errors import RequirementMissingError
from pytest_llmopt.optimizations.quantization._quantizer import refuse_saving
from pytest_llmopt.optimizations.quantization._shapes import refuse_groups

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Quantize the loaded model."""
    if options.group_size > 0:
        refuse_groups(plan, options.group_size, of="columns" if options.axis else "rows")
    plan.after_load.append(lambda model: _quantize(options, model, plan.device))


def _load(options: Any, plan: LoadPlan) -> None:
    """Quantize after loading where a config is given: Transformers 5 cannot while loading.

    Raises:
        RequirementMissingError: a checkpoint, which Transformers 5 does not load.
    """
    if plan.weights is not None:
        msg = "needs a Transformers that loads HQQ checkpoints: 5.23.0 says 'HQQ is not available yet'"
        name = "hqq"
        raise RequirementMissingError(name, msg)
    plan.load.pop("quantization_config", None)
    _apply(options, plan)


def _quantize(options: Any, model: Any, device: str) -> None:
    from hqq.core.quantize import BaseQuantizeConfig, HQQBackend, HQQLinear
    from hqq.models.hf.base import AutoHQQHFModel

    group_size = None if options.group_size < 0 else options.group_size
    config = BaseQuantizeConfig(nbits=options.bits, group_size=group_size, axis=options.axis)
    AutoHQQHFModel.quantize_model(model, quant_config=config, compute_dtype=model.dtype, device=device)
    if options.backend in {"pytorch", "aten"}:
        # `HQQLinear.set_backend` would change every model of this process.
        for module in model.modules():
            if isinstance(module, HQQLinear):
                module.forward = getattr(module, HQQBackend[options.backend.upper()].value)
    else:
        from hqq.utils.patching import prepare_for_inference

        prepare_for_inference(model, backend=options.backend)
    refuse_saving(model, "Transformers 5 cannot load what hqq would save")


applier = Applier(_apply, _load)
