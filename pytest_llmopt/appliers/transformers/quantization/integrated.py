"""Quantized while loading, by the config class that the method names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier
from pytest_llmopt.optimizations.quantization._integrated import name_of

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Quantize while loading."""
    from transformers.utils import quantization_config

    kind = getattr(quantization_config, options.config_class)
    plan.set("load", "quantization_config", kind(**options.config()), by=name_of(options))


applier = Applier(_apply)
