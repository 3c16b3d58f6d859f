"""A long text decoded token by token, and the same text prefilled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import NotApplicableError, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Subject

__all__ = ["decoded_prefix"]

CONTEXT, TOKENS = 8, 16
DECODED = (128, 264)
"""The last one beyond 256, which no page and no residual of the caches of today exceeds; more only costs time."""


def decoded_prefix(subject: Subject) -> Iterator[Pair]:
    """What was decoded long ago counts as what was prefilled, however long an answer becomes."""
    subject.require_own_scales()
    room = min(len(subject.text), subject.engine.max_length or len(subject.text)) - CONTEXT - TOKENS
    lengths = [length for length in DECODED if length <= room]
    if not lengths:
        msg = f"there is room for {subject.engine.max_length} tokens only"
        raise NotApplicableError(msg)
    (whole,) = subject.engine.force([subject.part(0, CONTEXT, lengths[-1] + TOKENS)])
    for length in lengths:
        part = subject.part(0, CONTEXT + length, TOKENS)
        (prefilled,) = subject.engine.force([part])
        change = f"a text of {CONTEXT + length} tokens decoded from its token {CONTEXT} on instead of prefilled"
        yield Pair(change, "text", part, prefilled.logprobs, whole.logprobs[length : length + TOKENS])
