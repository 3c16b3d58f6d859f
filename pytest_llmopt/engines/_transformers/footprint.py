"""Bytes held by a model's live tensors, packed and wrapped ones included."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.engine import Footprint

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
    return Footprint(sum(sizes.values()), int(model.num_parameters()), dict(sizes))


def tensors_of(module: Any, *, without: str | None = None) -> Iterator[torch.Tensor]:
    """The plain tensors behind the parameters and buffers of a module, but for those of one name.

    Also those that a module keeps as plain attributes, where a copy of its weights would lie.
    """
    kept = (item for part in module.modules() for item in vars(part).items() if hasattr(item[1], "untyped_storage"))
    for held in (module.named_parameters(), module.named_buffers(), kept):
        for name, tensor in held:
            if without is None or name.rpartition(".")[2] != without:
                yield from _parts(tensor)


def _parts(tensor: Any) -> Iterator[torch.Tensor]:
    """The plain tensors behind one: itself, the parts of a wrapper subclass, and a bitsandbytes state beside it."""
    inner = getattr(tensor, "data", tensor)
    if hasattr(inner, "__tensor_flatten__"):
        for name in inner.__tensor_flatten__()[0]:
            yield from _parts(getattr(inner, name))
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
