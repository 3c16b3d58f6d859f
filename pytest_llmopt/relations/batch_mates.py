"""A request alone, and beside one to eight others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["batch_mates"]

CONTEXTS = (9, 14, 9, 5, 17, 11, 3, 20, 7)
"""Lengths of the prompts, of which the first n are decoded together: ragged, with two of the same length."""
TOKENS = 2
"""One of prefill, one of decode."""


def batch_mates(subject: Subject) -> Iterator[Pair]:
    """A prompt gets the same beside others as alone, in batches of 2 to 9."""
    subject.require_own_scales()
    subject.require_batches()
    parts = [subject.part(13 * row, context, TOKENS) for row, context in enumerate(CONTEXTS)]
    alone = [subject.engine.force([part])[0] for part in parts]
    names = [f"row {row}" for row in range(len(parts))]
    for size in range(2, len(parts) + 1):
        together = subject.engine.force(parts[:size], batch_size=size)
        yield from pairs(f"a batch of {size}", names[:size], alone[:size], together)
