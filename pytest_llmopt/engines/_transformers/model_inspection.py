"""What a loaded model is made of, and what a short `generate` of it really calls."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.inspection import CacheInUse, ForwardPass, Inspection, Projection
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.engines._transformers import experts, generation
from pytest_llmopt.engines._transformers.footprint import matrix_of, parts_of, tensors_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_llmopt.core.tokens import TokenIds
    from pytest_llmopt.engines._transformers.model_loading import LoadedModel

CACHES = ("past_key_values", "cache_params", "state", "rnn_state")
"""What forwards call what they keep from step to step."""
TOKENS = 4
"""Decoded while watching: one prefill and a few decode steps."""
TEXT = "def longest(names, limit=10):\n    for name in names:\n        if len(name) > limit:\n            return name\n"
"""Decoded from; long enough that processing it twice is more than the drafts of a few steps."""


def inspect(loaded: LoadedModel, prompt: TokenIds, max_length: int | None) -> Inspection:
    """The parts of the model, and what it calls while it decodes a prompt."""
    import torch

    seen = _Seen()
    weights = {id(weight): 0 for _, _, weight in _linear(loaded.model)}
    if max_length is not None:
        prompt = prompt[: max(1, max_length - TOKENS)]
    # A graph that is compiled would not call what is watched, and watching it would compile another one.
    with (
        torch.compiler.set_stance("force_eager"),
        _watching_passes(loaded.model, seen),
        _watching_attention(seen),
        _watching_products(weights),
    ):
        sampling = SamplingParams(max_new_tokens=TOKENS, ignore_eos=True)
        generation.generate(loaded, [prompt], sampling, generation.Room(max_length, top_k=1))
    config = loaded.model.config.get_text_config()
    adapted = [module for module in loaded.model.modules() if hasattr(module, "base_layer")]
    return Inspection(
        modules=Counter(type(module).__name__ for module in loaded.model.modules()),
        projections=tuple(_projections(loaded.model, weights)),
        attention=getattr(config, "_attn_implementation", None),
        attention_calls=seen.attention,
        cache=seen.cache,
        max_batch=loaded.plan.max_batch,
        sliding_window=_window(config),
        rows=generation.rows_together(loaded.plan) if loaded.plan.fixed_shapes else 1,
        passes=tuple(seen.passes),
        extra_tokens=loaded.plan.extra_tokens,
        longest_request=len(prompt) + TOKENS,
        measured={name: float(figure(loaded.model)) for name, figure in loaded.plan.measure.items()},
        other_weights=experts.other_weights(loaded.model),
        adapted_modules=sum(bool(getattr(module, "active_adapters", ())) for module in adapted),
        checkpoint=loaded.checkpoint,
        excused=loaded.excused,
    )


def _linear(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """Every module that has a width of inputs and one of outputs, as the linear layers of all quantizers do.

    With its name before it and its weight, as it is held, behind it. A layer that carries an adapter is the layer below
    it; the adapter's own matrices are none of the model's.
    """
    adapted = tuple(f"{name}." for name, module in model.named_modules() if hasattr(module, "base_layer"))
    for name, outer in model.named_modules():
        module = getattr(outer, "base_layer", outer)
        if not name.startswith(adapted) and matrix_of(module) is not None:
            yield name, module, getattr(module, "weight", None)


def _projections(model: Any, products: Mapping[int, int]) -> Iterator[Projection]:
    head = model.get_output_embeddings()
    head = getattr(head, "base_layer", head)
    for name, module, weight in _linear(model):
        outputs, inputs = matrix_of(module) or (0, 0)
        held = {part.untyped_storage().data_ptr(): part for part in tensors_of(module, without="bias")}
        yield Projection(
            name,
            f"{type(module).__name__}[{type(weight).__name__}]",
            sum(part.untyped_storage().nbytes() for part in held.values()),
            inputs * outputs,
            module is head,
            products.get(id(weight)),
            inputs,
        )
    for stack in experts.stacks(model):
        for number in range(stack.count):
            yield Projection(
                f"{stack.name}[{number}]",
                stack.kind,
                stack.weight_bytes // stack.count,
                stack.outputs * stack.inputs,
                columns=stack.inputs,
                is_expert=True,
            )


@dataclass
class _Seen:
    """What was called."""

    attention: Counter[str] = field(default_factory=Counter)
    cache: CacheInUse | None = None
    passes: list[ForwardPass] = field(default_factory=list)
    keys: dict[int, Any] = field(default_factory=dict)
    """By layer, its buffer after the step before; held, so that no other can take its address."""


@contextmanager
def _watching_passes(model: Any, seen: _Seen) -> Iterator[None]:
    """Count what each forward pass is fed and gives, and look at the cache that it leaves behind."""
    window = _window(model.config.get_text_config(decoder=True))

    def look(_model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        fed = next((given for name in ("input_ids", "inputs_embeds") if (given := kwargs.get(name)) is not None), None)
        fed = args[0] if fed is None and args else fed
        if fed is not None:
            seen.passes.append(_pass(fed, kwargs.get("attention_mask"), getattr(output, "logits", None)))
        held = (given for name in CACHES for given in (getattr(output, name, None), kwargs.get(name)))
        cache = next((item for item in held if item is not None), None)
        if cache is None:
            return
        layers = getattr(cache, "layers", [])
        states = sum(hasattr(layer, "recurrent_states") and not hasattr(layer, "keys") for layer in layers)
        keys = {place: layer.keys for place, layer in enumerate(layers) if _has_keys(layer)}
        # Told by the buffers, not by the class: a cache that grows under the name of a static one is no static one.
        fixed = [tensor for place, tensor in keys.items() if place in seen.keys and seen.keys[place] is tensor]
        seen.keys = keys
        seen.cache = CacheInUse(
            type(cache).__name__,
            Counter(type(layer).__name__ for layer in layers),
            len(fixed),
            max(int(tensor.shape[-2]) for tensor in fixed) if fixed and len(fixed) + states == len(layers) else None,
            states,
            window if all(getattr(layer, "is_sliding", False) for layer in layers if hasattr(layer, "keys")) else None,
            _bytes_per_quantized_value(layers),
        )

    handle = model.register_forward_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _window(config: Any) -> int | None:
    """The tokens that a layer attends to at most, whether its window slides or comes in chunks; None without one."""
    types = getattr(config, "layer_types", None)
    names = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
    sizes = [getattr(config, name, None) for kind, name in names.items() if types is None or kind in types]
    return min((size for size in sizes if size), default=None)


def _pass(fed: Any, mask: Any, logits: Any) -> ForwardPass:
    rows, tokens = fed.shape[:2]
    if getattr(mask, "ndim", 0) == 2 and mask.shape[1] >= tokens:  # noqa: PLR2004 - [rows, tokens], as it is asked for
        tokens = mask[:, -tokens:].sum(-1).max()
    return ForwardPass(int(rows), int(tokens), 0 if logits is None else int(logits.shape[1]))


def _bytes_per_quantized_value(layers: Any) -> float | None:
    """Bytes held for each key and value that a cache keeps quantized, scales included; None where it keeps none."""
    held = [vars(layer).get(name) for layer in layers for name in ("_quantized_keys", "_quantized_values")]
    stored = values = 0
    for codes, *rest in ((item if isinstance(item, tuple) else (item,)) for item in held if item is not None):
        meta = rest[0] if rest and isinstance(rest[0], dict) else {}
        values += math.prod(meta.get("shape", codes.shape))
        tensors = [codes, *(item for item in (*meta.values(), *rest) if hasattr(item, "untyped_storage"))]
        stored += sum(part.untyped_storage().nbytes() for tensor in tensors for part in parts_of(tensor))
    return stored / values if values else None


def _has_keys(layer: Any) -> bool:
    keys = getattr(layer, "keys", None) if getattr(layer, "is_initialized", False) else None
    return keys is not None and keys.ndim > 1  # one that keeps all of its tokens quantized has an empty one


@contextmanager
def _watching_products(weights: dict[int, int]) -> Iterator[None]:
    """Count how often each of these objects is the weight of a `linear`."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Watching(TorchFunctionMode):  # type: ignore[misc]  # untyped in torch
        def __torch_function__(
            self, func: Any, _types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            if func is torch.nn.functional.linear:
                weight = args[1] if len(args) > 1 else (kwargs or {}).get("weight")
                if id(weight) in weights:
                    weights[id(weight)] += 1
            return func(*args, **(kwargs or {}))

    with Watching():
        yield


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
