"""What equal calls of a loaded model leave behind, and what of them does not run compiled."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.inspection import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from pytest_llmopt.engines._transformers.model_loading import LoadedModel

CALLS = 4
"""After the first, where memory grows: what only one of them leaves behind, as a graph that is recorded, is no leak."""


def work(loaded: LoadedModel, call: Callable[[], None], batches: int) -> Work:
    """What a call of so many batches does that was made before: two more, or four where the second leaves something.

    Bytes are those of the device's allocator where it has one, and otherwise of the tensors that Python can reach.
    """
    with _only_what_comes():
        eager = _Eager.of(loaded.model)
        with eager.counted():
            call()
        before, grown, kept = _alive(loaded.model), float("inf"), ""
        for _ in range(1, CALLS):
            call()
            after = _alive(loaded.model)
            if after.total - before.total < grown:
                grown, kept = after.total - before.total, after.beyond(before)
            before = after
            if grown <= 0:
                break
    return Work(max(0.0, grown), kept, eager.passes, batches)


@contextmanager
def _only_what_comes() -> Iterator[None]:
    """Inside it, the garbage collector looks at nothing that was there before, which makes it fast."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclass(frozen=True)
class _Alive:
    """Tensors of a device."""

    total: int
    """Bytes."""
    tensors: Counter[str]
    """By dtype and shape."""

    def beyond(self, before: _Alive) -> str:
        """What is alive and was not before, the most frequent kinds of tensors."""
        return ", ".join(f"{count} x {kind}" for kind, count in (self.tensors - before.tensors).most_common(3))


def _alive(model: Any) -> _Alive:
    import torch

    gc.collect()
    device = model.device
    sizes: dict[int, int] = {}
    tensors: Counter[str] = Counter()
    for item in gc.get_objects():
        # By its real type: what only pretends to be a tensor may do anything when it is asked.
        if not issubclass(type(item), torch.Tensor) or hasattr(item, "__tensor_flatten__"):
            continue
        storage = item.untyped_storage()
        if storage.device != device or storage.data_ptr() in sizes:
            continue
        sizes[storage.data_ptr()] = storage.nbytes()
        tensors[f"{str(item.dtype).removeprefix('torch.')} {list(item.shape)}"] += 1
    if device.type == "cuda":
        return _Alive(torch.cuda.memory_allocated(device), tensors)
    return _Alive(sum(sizes.values()), tensors)


@dataclass
class _Eager:
    """Calls of projections that the interpreter runs: a compiled graph holds their products, and never enters them."""

    codes: frozenset[CodeType]
    projections: int
    calls: int = 0

    @classmethod
    def of(cls, model: Any) -> _Eager:
        """For the linear layers of a model, however they are implemented."""
        linear = [
            module for _, module in model.named_modules() if isinstance(getattr(module, "in_features", None), int)
        ]
        codes = (getattr(module.forward, "__code__", None) for module in linear)
        return cls(frozenset(code for code in codes if code is not None), len(linear))

    @property
    def passes(self) -> int:
        """Forward passes that ran without any part of it compiled."""
        return self.calls // max(1, self.projections)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is called inside; another profiler rests meanwhile."""
        given = sys.getprofile()

        def look(frame: FrameType, event: str, _argument: object) -> None:
            self.calls += event == "call" and frame.f_code in self.codes

        sys.setprofile(look)
        try:
            yield
        finally:
            sys.setprofile(given)
