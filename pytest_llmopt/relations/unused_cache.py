"""Other content in the part of the cache that holds no token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import NotApplicableError
from pytest_llmopt.core.requests import Inspect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["unused_cache"]

CONTENT = 1e3
"""Finite: kernels multiply masked places by a probability of zero, and zero times NaN is NaN. Far from any key or
value, and far from the overflow of float16."""


def unused_cache(subject: Subject) -> Iterator[Pair]:
    """What unused places of the cache hold does not matter."""
    subject.engine.require(Inspect)
    cache = subject.inspection.cache
    if cache is None:
        msg = "it decodes without a cache"
        raise NotApplicableError(msg)
    if cache.state_layers == sum(cache.layers.values()):
        msg = f"its {cache.kind} keeps states of a fixed size, all of which is used"
        raise NotApplicableError(msg)
    if cache.length is None:
        msg = "its cache grows with the tokens and has no unused place"
        raise NotApplicableError(msg)
    yield from subject.again(f"unused places filled with {CONTENT:g}", unused_cache=CONTENT)
