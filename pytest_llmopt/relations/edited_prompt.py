"""A prompt, then the same with something changed in it: what a prefix cache may confuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import NotApplicableError, Pair
from pytest_llmopt.core.tokens import Continuation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmopt.core.relation import Subject
    from pytest_llmopt.core.tokens import TokenIds

__all__ = ["edited_prompt"]

BLOCKS = (64, 32)
"""Lengths that end a block of a prefix cache, whose blocks are of 16, 32 or 64 tokens; the longest that fits."""
AFTER, TOKENS = 2, 3
"""Tokens of the prompt behind its last whole block, and what is decoded after them."""


def edited_prompt(subject: Subject) -> Iterator[Pair]:
    """A prompt gets its own answer, not that of an earlier one that it resembles."""
    subject.require_own_scales()
    room = min(len(subject.text), subject.engine.max_length or len(subject.text)) - AFTER - TOKENS
    end = next((block for block in BLOCKS if block <= room), None)
    if end is None:
        msg = f"there is room for {subject.engine.max_length} tokens only"
        raise NotApplicableError(msg)
    first = subject.part(0, end + AFTER, TOKENS)
    subject.engine.force([first])
    for change, tokens in _edits(subject, first.prompt_ids, end):
        (changed,) = subject.engine.force([Continuation(tokens, first.token_ids)])
        # Only what comes before the edit is prefilled, and that is the same in both prompts; the rest is decoded.
        start = max(1, next(place for place, token in enumerate(tokens) if token != first.prompt_ids[place]))
        (base,) = subject.engine.force([Continuation(tokens[:start], tokens[start:] + first.token_ids)])
        evidence = base.logprobs[len(tokens) - start :]
        yield Pair(f"after a prompt with {change}", "text", changed.continuation, evidence, changed.logprobs)


def _edits(subject: Subject, tokens: TokenIds, end: int) -> Iterator[tuple[str, TokenIds]]:
    """The prompt with something changed up to `end`, the smallest and latest change first."""
    for place in (end - 1, end - 4, end - 16, 0):
        ended = subject.engine.eos_token_ids
        other = next(
            token
            for step in range(1, subject.engine.vocab_size)
            if (token := (tokens[place] + step) % subject.engine.vocab_size) not in ended
        )
        yield f"another token at {place}", _with(tokens, place, (other,))
    for length in (1, 16, end // 2):
        start = end - 2 * length
        swapped = tokens[start + length : end] + tokens[start : start + length]
        if swapped != tokens[start:end]:
            yield f"its last blocks of {length} tokens before {end} swapped", _with(tokens, start, swapped)


def _with(tokens: TokenIds, start: int, changed: Sequence[int]) -> TokenIds:
    return (*tokens[:start], *changed, *tokens[start + len(changed) :])
