"""The prompt processed whole, and in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import RequestError
from pytest_llmopt.core.relation import NotApplicableError, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["prefill_chunk"]

CONTEXT, TOKENS = 49, 3
CHUNKS = (32, 16, 7, 3)


def prefill_chunk(subject: Subject) -> Iterator[Pair]:
    """The size of the pieces in which a prompt is processed does not matter."""
    part = subject.part(0, CONTEXT, TOKENS)
    base = subject.engine.force([part])
    for chunk in CHUNKS:
        try:
            changed = subject.engine.force([part], prefill_chunk=chunk)
        except RequestError as error:
            raise NotApplicableError(str(error)) from None
        yield from pairs(f"a prompt of {CONTEXT} tokens in pieces of {chunk}", ["text"], base, changed)
