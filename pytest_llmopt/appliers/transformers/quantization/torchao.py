"""A config of torchao, quantized while loading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.optimizations.quantization._shapes import refuse_groups
from pytest_llmopt.optimizations.quantization._torchao import config_of

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Quantize while loading."""
    from transformers import TorchAoConfig

    if options.group > 0:
        refuse_groups(plan, options.group)
    layout = options.layout if options.layout != "auto" else "opaque" if plan.device == "cpu" else "tile_packed_to_4d"
    if layout == "opaque" and options.group > 128:  # noqa: PLR2004 - of its kernel
        msg = f"group_size={options.group} is not possible with layout='opaque'; allowed: 32, 64, 128"
        raise OptionError(msg)
    config = config_of(options.scheme, options.width, options.group, options.symmetric, layout)
    plan.set("load", "quantization_config", TorchAoConfig(config), by="torchao")


applier = Applier(_apply)
