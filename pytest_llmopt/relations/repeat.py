"""The same call again, on the same objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["repeat"]

SEED = 20_011


def repeat(subject: Subject) -> Iterator[Pair]:
    """A call leaves nothing behind that shows in the next, and draws nothing at random."""
    yield from subject.again("the second call")
    # From the same state of the generators, noise that a forward pass draws would be the same noise again.
    yield from subject.again("the third call, from another state of the random generators", seed=SEED)
