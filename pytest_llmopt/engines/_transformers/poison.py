"""Other content than zero in the places of a static cache that hold no token yet."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def poisoned(content: float) -> Iterator[None]:
    """Inside it, static caches are filled with `content` where the library fills them with zeros.

    Both places are outside compiled graphs: allocation at the first prefill, and the reset before the next.
    """
    from transformers.cache_utils import StaticLayer

    allocate, reset = StaticLayer.lazy_initialization, StaticLayer.reset

    def fill(layer: Any) -> None:
        layer.keys.fill_(content)
        layer.values.fill_(content)

    def allocate_and_fill(layer: Any, *args: Any, **kwargs: Any) -> None:
        allocate(layer, *args, **kwargs)
        fill(layer)

    def reset_and_fill(layer: Any) -> None:
        reset(layer)
        if layer.is_initialized:
            fill(layer)

    own = vars(StaticLayer).get("reset")  # inherited, unless somebody has given it one
    StaticLayer.lazy_initialization, StaticLayer.reset = allocate_and_fill, reset_and_fill
    try:
        yield
    finally:
        StaticLayer.lazy_initialization = allocate
        if own is None:
            del StaticLayer.reset
        else:
            StaticLayer.reset = own
