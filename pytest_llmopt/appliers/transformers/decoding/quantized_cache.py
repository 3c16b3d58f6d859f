"""A quantized cache, through `generate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier
from pytest_llmopt.core.errors import OptionError, RequirementMissingError
from pytest_llmopt.optimizations.decoding._cache_readings import worst_gain
from pytest_llmopt.optimizations.decoding.quantized_cache import GAIN

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Ask `generate` for it, after a look at whether the architecture can have it."""
    names = {"nbits": "nbits", "group_size": "q_group_size", "residual_length": "residual_length"}
    names |= {"axis_key": "axis_key", "axis_value": "axis_value"}
    given = {key: value for name, key in names.items() if (value := getattr(options, name)) is not None}
    config = {"backend": options.backend, **given}
    plan.set("generate", "cache_implementation", "quantized", by="quantized_cache")
    plan.set("generate", "cache_config", config, by="quantized_cache")
    plan.measure[GAIN] = lambda model: worst_gain(model, plan.generate)
    plan.after_load.append(lambda model: _check(options, model, config))


def _check(options: Any, model: Any, config: dict[str, Any]) -> None:
    from transformers import QuantizedCache as Cache

    try:
        Cache(config=model.config, **config)
    except ValueError as error:
        msg = f"needs another architecture than {type(model).__name__}; Transformers says: {error}"
        name = "quantized_cache"
        raise RequirementMissingError(name, msg) from error
    if options.backend == "fp8":
        return
    text = model.config.get_text_config(decoder=True)
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    group = options.group_size or 64
    for axis, what in ((options.axis_key, "keys"), (options.axis_value, "values")):
        # Along the last axis quanto keeps the head size apart; along the first it groups all of a token.
        width = text.num_key_value_heads * (1 if axis == -1 else size)
        if width % group:
            msg = f"group_size={group} does not divide the {width} {what} of a token that axis {axis or 0} groups"
            raise OptionError(msg)


applier = Applier(_apply)
