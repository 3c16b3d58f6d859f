"""Bytes held by a model's live tensors, packed and wrapped ones included."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.answers import Footprint

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


def measure(model: Any) -> Footprint:
    """The memory of every parameter and buffer, each storage once, with the scales and codes that quantizers keep."""
    sizes: Counter[str] = Counter()
    seen: set[int] = set()
    for tensor in tensors_of(model):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            sizes[str(tensor.dtype).removeprefix("torch.")] += storage.nbytes()
    return Footprint(sum(sizes.values()), parameters_of(model), dict(sizes))


def parameters_of(model: Any) -> int:
    """The parameters that a model stands for: packed projections count as inputs times outputs, tied weights once."""
    packed = [module for module in model.modules() if _is_packed(module)]
    own = {id(part): part for part in model.parameters()}
    for module in packed:
        for part in module.parameters():
            own.pop(id(part), None)
    biases: list[Any] = [getattr(module, "bias", None) for module in packed]
    return (
        sum(math.prod(matrix_of(module) or ()) for module in packed)
        + sum(bias.numel() for bias in biases if bias is not None)
        + sum(part.numel() for part in own.values())
    )


def _is_packed(module: Any) -> bool:
    """Whether a module is a matrix product whose weight is no plain matrix, and not a wrapper around such a module."""
    shape = matrix_of(module)
    if shape is None or any(matrix_of(part) for part in module.modules() if part is not module):
        return False
    # Some give a description of the weight that they no longer have: only a parameter of its own counts.
    own = dict(module.named_parameters(recurse=False)).get("weight")
    return own is None or tuple(own.shape) != shape


def matrix_of(module: Any) -> tuple[int, int] | None:
    """Outputs and inputs of a matrix product, as the linear layers of all quantizers state them; else None."""
    # The last is `Conv1D` of Transformers, a linear layer with its weight transposed.
    for outputs, inputs in (("out_features", "in_features"), ("outfeatures", "infeatures"), ("nf", "nx")):
        shape = (getattr(module, outputs, None), getattr(module, inputs, None))
        if isinstance(shape[0], int) and isinstance(shape[1], int):
            return (shape[0], shape[1])
    return None


def tensors_of(module: Any, *, without: str | None = None) -> Iterator[torch.Tensor]:
    """The plain tensors behind the parameters and buffers of a module, but for those of one name.

    Also those that a module keeps as plain attributes, where a copy of its weights would lie, alone or in a dictionary.
    """
    kept = (item for part in module.modules() for item in _attributes(part) if hasattr(item[1], "untyped_storage"))
    for held in (module.named_parameters(), module.named_buffers(), kept):
        for name, tensor in held:
            if without is None or name.rpartition(".")[2] != without:
                yield from parts_of(tensor)


def _attributes(part: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(part).items():
        yield name, value
        # What begins with an underscore is torch's own, such as `_parameters`.
        if isinstance(value, dict) and not name.startswith("_"):
            yield from ((str(key), inner) for key, inner in value.items())


def parts_of(tensor: Any) -> Iterator[torch.Tensor]:
    """The plain tensors behind one: itself, the parts of a wrapper subclass, and a bitsandbytes state beside it."""
    inner = getattr(tensor, "data", tensor)
    if hasattr(inner, "__tensor_flatten__"):
        for name in inner.__tensor_flatten__()[0]:
            yield from parts_of(getattr(inner, name))
        return
    yield inner
    # bitsandbytes keeps its scales in plain attributes: `quant_state` (4 bits), `CB` and `SCB` (8 bits).
    for name in ("CB", "SCB"):
        if getattr(tensor, name, None) is not None:
            yield getattr(tensor, name)
    state = getattr(tensor, "quant_state", None)
    while state is not None:
        for name in ("absmax", "code", "offset"):
            if hasattr(getattr(state, name, None), "untyped_storage"):
                yield getattr(state, name)
        state = getattr(state, "state2", None)
