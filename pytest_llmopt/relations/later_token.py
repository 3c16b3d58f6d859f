"""Causality: another token later in the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import Pair
from pytest_llmopt.core.tokens import Continuation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Subject

__all__ = ["later_token"]

LENGTH = 48
CHANGED = (46, 24, 4)


def later_token(subject: Subject) -> Iterator[Pair]:
    """Changing a later token moves no earlier log-probability."""
    subject.require_own_scales()
    tokens = subject.text[:LENGTH]
    continuation = Continuation(tokens[:1], tokens[1:])
    (base,) = subject.engine.score([continuation])
    for place in CHANGED:
        other = (tokens[place] + 1) % subject.engine.vocab_size
        (changed,) = subject.engine.score([Continuation(tokens[:1], (*tokens[1:place], other, *tokens[place + 1 :]))])
        # The distribution at the changed token still rests on equal prefixes, so aligning keeps it.
        yield Pair(f"token {place} of {LENGTH} changed", "text", continuation, base, changed)
