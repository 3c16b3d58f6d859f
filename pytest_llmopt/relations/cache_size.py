"""The room for output, which sets the length of a cache that is allocated at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import NotApplicableError, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["cache_size"]

CONTEXTS = (12, 7)
SIZES = (4, 5, 12, 40)


def cache_size(subject: Subject) -> Iterator[Pair]:
    """The first tokens do not depend on how many are to follow (`max_new_tokens`)."""
    room = min(len(subject.text), subject.engine.max_length or len(subject.text)) - max(CONTEXTS)
    sizes = [size for size in SIZES if size <= room]
    if len(sizes) < 2:  # noqa: PLR2004 - something to compare with
        msg = f"there is room for {subject.engine.max_length} tokens only"
        raise NotApplicableError(msg)
    least, *larger = sizes
    names = [f"text of {context} tokens" for context in CONTEXTS]
    base = subject.engine.force([subject.part(0, context, least) for context in CONTEXTS])
    for size in larger:
        changed = subject.engine.force([subject.part(0, context, size) for context in CONTEXTS])
        yield from pairs(f"max_new_tokens={size} instead of {least}", names, base, changed)
