"""A loaded model by other arithmetic, in place: the same function, other rounding, and back to the bit."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import NothingToChangeError, OptionError, RequirementMissingError
from pytest_llmopt.engines._transformers.permuting import permuted
from pytest_llmopt.engines._transformers.widening import in_float32

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

CHANGES = ("permuted", "eager attention", "float32")


def varied(model: Any, change: str, seed: int) -> AbstractContextManager[None]:
    """Inside it the model computes by other arithmetic. Contexts can be nested.

    Raises:
        OptionError: there is no such change.
        RequirementMissingError: on entering, with the reason why this model cannot be changed so.
    """
    if change == "permuted":
        return permuted(model, seed)
    if change == "eager attention":
        return eager_attention(model)
    if change == "float32":
        return in_float32(model)
    msg = f"there is no change {change!r}; known: {', '.join(CHANGES)}"
    raise OptionError(msg)


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Inside it attention is computed by matrix products and a softmax, one after the other.

    Raises:
        NothingToChangeError: that is how it is computed already.
        RequirementMissingError: the architecture cannot switch.
    """
    name = "eager attention"
    if getattr(model.config, "_attn_implementation", None) in {None, "eager"}:
        msg = "it is what the model runs"
        raise NothingToChangeError(name, msg)
    before = {id(config): (config, config._attn_implementation_internal) for config in _configs(model)}  # noqa: SLF001
    try:
        model.set_attn_implementation("eager")
        if model.config._attn_implementation != "eager":  # noqa: SLF001 - the library only logs that it did nothing
            msg = f"{type(model).__name__} cannot switch its attention"
            raise RequirementMissingError(name, msg)
        yield
    finally:
        # The library's setter would tell parts that had another kernel to take that of the whole.
        for config, implementation in before.values():
            config._attn_implementation_internal = implementation  # noqa: SLF001


def _configs(model: Any) -> Iterator[Any]:
    """The configurations of a model and of its parts."""
    waiting = [module.config for module in model.modules() if hasattr(module, "config")]
    while waiting:
        config = waiting.pop()
        if hasattr(config, "_attn_implementation_internal"):
            yield config
            parts = (getattr(config, name, None) for name in getattr(config, "sub_configs", ()))
            waiting += [part for part in parts if part is not None]
