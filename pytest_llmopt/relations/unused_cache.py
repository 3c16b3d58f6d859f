"""Other content in the part of the cache that holds no token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.engine import Poisons
from pytest_llmopt.core.relation import NotApplicableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["unused_cache"]


def unused_cache(subject: Subject) -> Iterator[Pair]:
    """What unused places of the cache hold does not matter."""
    cache = subject.inspection.cache
    if not isinstance(subject.engine, Poisons):
        msg = "its engine cannot fill them"
        raise NotApplicableError(msg)
    if cache is None:
        msg = "it decodes without a cache"
        raise NotApplicableError(msg)
    if cache.state_layers == sum(cache.layers.values()):
        msg = f"its {cache.kind} keeps states of a fixed size, all of which is used"
        raise NotApplicableError(msg)
    if cache.length is None:
        msg = "its cache grows with the tokens and has no unused place"
        raise NotApplicableError(msg)
    with subject.engine.poisoned() as content:
        changed = subject.again(f"unused places filled with {content}")
    yield from changed
