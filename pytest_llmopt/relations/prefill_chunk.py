"""A long and a short prompt processed whole, and in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["prefill_chunk"]

CONTEXTS, TOKENS = (49, 5), 3
"""Side by side where batches are possible: whole pieces of the short one are then padding."""
CHUNKS = (32, 16, 7, 3)


def prefill_chunk(subject: Subject) -> Iterator[Pair]:
    """The size of the pieces in which a prompt is processed does not matter."""
    subject.require("prefill_chunk")
    parts = [subject.part(0, context, TOKENS) for context in CONTEXTS]
    names = [f"text of {context} tokens" for context in CONTEXTS]
    base = subject.engine.force(parts)
    for chunk in CHUNKS:
        changed = subject.engine.force(parts, prefill_chunk=chunk)
        yield from pairs(f"a prefill in pieces of {chunk}", names, base, changed)
