"""How far a long request is: whoever waits for it may listen."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LISTENER: ContextVar[Callable[[int], None] | None] = ContextVar("pytest_llmopt_progress", default=None)


def report(tokens: int) -> None:
    """Say that so many tokens of the present request are done; heard by nobody unless somebody listens."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(tokens)


@contextmanager
def heard(listener: Callable[[int], None]) -> Iterator[None]:
    """Inside it, a function hears of every report."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)
