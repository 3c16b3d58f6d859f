"""How a mutant replaces the attention kernel, the window or the positions of one model and of no other."""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def around(owner: Any, name: str, context: Callable[[], Any]) -> None:
    """Run one method of one object inside a context."""
    own = getattr(owner, name)

    @functools.wraps(own)
    def method(*args: Any, **kwargs: Any) -> Any:
        with context():
            return own(*args, **kwargs)

    setattr(owner, name, method)


@contextmanager
def configured(model: Any, **values: Any) -> Iterator[None]:
    """The model's own configuration says something else for a while."""
    before = {name: getattr(model.config, name) for name in values}
    for name, value in values.items():
        setattr(model.config, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(model.config, name, value)


def change_window(model: Any, by: int) -> None:
    """Generate and score with a window of so many tokens more."""
    window = model.config.sliding_window + by
    for owner, name in ((model.model, "forward"), (model, "generate")):
        around(owner, name, lambda: configured(model, sliding_window=window))


def replace_kernel(model: Any, wrong: Callable[..., Any]) -> None:
    """Attend with `wrong(own, module, query, key, value, mask, **options)`; `own` is the kernel that the model has.

    It takes the place of its own kernel, name included, only while an attention layer of this model runs.
    """
    for layer in model.model.layers:
        around(layer.self_attn, "forward", lambda attention=layer.self_attn: _registered(attention, wrong))


@contextmanager
def _registered(attention: Any, wrong: Callable[..., Any]) -> Iterator[None]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as FUNCTIONS

    name = attention.config._attn_implementation  # noqa: SLF001 - where the library keeps it
    own = FUNCTIONS.get(name, sys.modules[type(attention).__module__].eager_attention_forward)
    outer = name in FUNCTIONS._local_mapping  # noqa: SLF001 - where an entry of one's own goes
    FUNCTIONS[name] = functools.partial(_in_order, wrong, own)
    try:
        yield
    finally:
        if outer:
            FUNCTIONS[name] = own
        else:
            del FUNCTIONS[name]


def _in_order(wrong: Any, own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
    return wrong(own, module, query, key, value, mask, **options)


def allowed(query: Any, key: Any, mask: Any) -> Any:
    """Which keys each query may attend to, whatever kind of mask the library made: `[batch or 1, 1, queries, keys]`."""
    import torch

    if mask is None:
        seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
        return (seen.tril() if query.shape[2] > 1 else seen)[None, None]
    return (mask if mask.dtype == torch.bool else mask == 0).clone()


def as_mask(seen: Any, query: Any) -> Any:
    """A mask to add to the scores, for every kernel."""
    import torch

    return torch.zeros(seen.shape, dtype=query.dtype, device=query.device).masked_fill(
        ~seen, torch.finfo(query.dtype).min
    )


def reposition(model: Any, wrong: Callable[[Any, int, dict[str, Any]], Any]) -> None:
    """Let `wrong(position_ids, cached tokens, arguments)` say the positions wherever there is a cache."""

    def look(_body: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        cache = kwargs.get("past_key_values")
        if cache is not None and kwargs.get("position_ids") is not None:
            kwargs["position_ids"] = wrong(kwargs["position_ids"], int(cache.get_seq_length()), kwargs)
        return args, kwargs

    model.model.register_forward_pre_hook(look, with_kwargs=True)


def frequencies(model: Any, **changed: Any) -> Any:
    """The rotary frequencies that the model would have with other RoPE parameters."""
    import copy

    config = copy.deepcopy(model.config)
    config.rope_parameters = {**config.rope_parameters, **changed}
    return type(model.model.rotary_emb)(config).inv_freq


def reposition_before(model: Any, wrong: Callable[[Any, int, dict[str, Any]], Any]) -> None:
    """As `reposition`, but outside of what is compiled: before the model's own forward is called."""
    own = model.forward

    @functools.wraps(own)
    def forward(*args: Any, **kwargs: Any) -> Any:
        cache = kwargs.get("past_key_values")
        if cache is not None and kwargs.get("position_ids") is not None:
            kwargs["position_ids"] = wrong(kwargs["position_ids"], int(cache.get_seq_length()), kwargs)
        return own(*args, **kwargs)

    model.forward = forward
