"""A checkpoint of any method, or a config of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier, load_checkpoint
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.optimizations.quantization.configured import UNNAMED

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Load the checkpoint, or quantize while loading.

    Raises:
        OptionError: the checkpoint is not what the options say, or neither it nor a config is given.
        ModelError: the checkpoint's config cannot be read.
    """
    if not options.checkpoint and options.config is None:
        raise OptionError(UNNAMED)
    if options.config is not None:
        plan.set("load", "quantization_config", options.config.value, by="quantized(config=)")
    if options.checkpoint:
        plan.weights = options.produce(plan).folder
    if options.known is not None:
        load_checkpoint("transformers", options.known, plan)


applier = Applier(_apply)
