"""The same call again, on the same objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["repeat"]


def repeat(subject: Subject) -> Iterator[Pair]:
    """A call leaves nothing behind that shows in the next."""
    for count in ("second", "third"):
        yield from subject.again(f"the {count} call")
