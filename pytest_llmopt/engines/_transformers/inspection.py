"""What a loaded model is made of, and what a short `generate` of it really calls."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.engine import SamplingParams
from pytest_llmopt.core.inspection import CacheInUse, Inspection, Projection
from pytest_llmopt.engines._transformers import generation
from pytest_llmopt.engines._transformers.footprint import tensors_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.engine import TokenIds
    from pytest_llmopt.engines._transformers.loading import Loaded

TOKENS = 4
"""Decoded while watching: one prefill and a few decode steps."""


def inspect(loaded: Loaded, prompt: TokenIds, max_length: int | None) -> Inspection:
    """The parts of the model, and what it calls while it decodes a prompt."""
    import torch

    seen = _Seen()
    # A graph that is compiled would not call what is watched, and watching it would compile another one.
    with torch.compiler.set_stance("force_eager"), _watching_cache(loaded.model, seen), _watching_attention(seen):
        sampling = SamplingParams(max_new_tokens=TOKENS, ignore_eos=True)
        generation.generate(loaded, [prompt], sampling, max_length, top_k=1)
    config = loaded.model.config.get_text_config()
    types = getattr(config, "layer_types", None)
    slides = types is None or "sliding_attention" in types
    return Inspection(
        modules=Counter(type(module).__name__ for module in loaded.model.modules()),
        projections=tuple(_projections(loaded.model)),
        attention=getattr(config, "_attn_implementation", None),
        attention_calls=seen.attention,
        cache=seen.cache,
        max_batch=loaded.plan.max_batch,
        sliding_window=getattr(config, "sliding_window", None) if slides else None,
    )


def _projections(model: Any) -> Iterator[Projection]:
    """Every module that has a width of inputs and one of outputs, as the linear layers of all quantizers do."""
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
        if not isinstance(inputs, int) or not isinstance(outputs, int):
            continue
        held = {part.untyped_storage().data_ptr(): part for part in tensors_of(module, without="bias")}
        yield Projection(
            name,
            f"{type(module).__name__}[{type(getattr(module, 'weight', None)).__name__}]",
            sum(part.untyped_storage().nbytes() for part in held.values()),
            inputs * outputs,
            module is head,
        )


@dataclass
class _Seen:
    """What was called."""

    attention: Counter[str] = field(default_factory=Counter)
    cache: CacheInUse | None = None
    keys: dict[int, Any] = field(default_factory=dict)
    """By layer, its buffer after the step before; held, so that no other can take its address."""


@contextmanager
def _watching_cache(model: Any, seen: _Seen) -> Iterator[None]:
    """Look at the cache that each step leaves behind."""

    def look(_model: Any, _args: object, kwargs: dict[str, Any], output: Any) -> None:
        cache = getattr(output, "past_key_values", None)
        cache = kwargs.get("past_key_values") if cache is None else cache
        if cache is None:
            return
        layers = getattr(cache, "layers", [])
        keys = {place: layer.keys for place, layer in enumerate(layers) if _has_keys(layer)}
        # Told by the buffers, not by the class: a cache that grows under the name of a static one is no static one.
        fixed = [tensor for place, tensor in keys.items() if place in seen.keys and seen.keys[place] is tensor]
        seen.keys = keys
        seen.cache = CacheInUse(
            type(cache).__name__,
            Counter(type(layer).__name__ for layer in layers),
            len(fixed),
            max(int(tensor.shape[-2]) for tensor in fixed) if fixed and len(fixed) == len(layers) else None,
        )

    handle = model.register_forward_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _has_keys(layer: Any) -> bool:
    return getattr(layer, "is_initialized", False) and getattr(layer, "keys", None) is not None


@contextmanager
def _watching_attention(seen: _Seen) -> Iterator[None]:
    """Count the attention functions that layers are given and really call, by the name that they are registered under.

    The name comes from the function, not from what was asked for.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as FUNCTIONS

    given = FUNCTIONS.get_interface

    def name_of(function: Any) -> str:
        names = [name for name, registered in FUNCTIONS.items() if registered is function and "|" not in name]
        return names[0] if names else function.__name__.removesuffix("_attention_forward")

    def get_interface(*args: Any, **kwargs: Any) -> Any:
        function = given(*args, **kwargs)

        def called(*inner: Any, **options: Any) -> Any:
            seen.attention[name_of(function)] += 1
            return function(*inner, **options)

        return called

    FUNCTIONS.get_interface = get_interface
    try:
        yield
    finally:
        del FUNCTIONS.get_interface
