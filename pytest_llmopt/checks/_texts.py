"""Running text made of the prompts, with an end of text in it once in a while, as chats have."""

from __future__ import annotations

from itertools import chain, cycle, islice
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_llmopt.core.prompt import Prompt
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

FIRST_END, END_EVERY = 7, 101
"""Tokens before the first end, and between two of them: within the shortest context that is given, a multiple of no
block size, and far enough apart for most of a text to lie before the next one."""


def context_room(engine: Side, most: int, max_new_tokens: int) -> int:
    """Tokens of context that there is room for beside the new ones, up to a number.

    Raises:
        OptionError: there is none.
    """
    if engine.max_length is None:
        return most
    room = engine.max_length - max_new_tokens
    if room < 1:
        msg = (
            f"max_new_tokens={max_new_tokens} leaves no room for a prompt: {engine.variant.model} has room for "
            f"{engine.max_length} tokens in all (its own, its draft's or its cache's). Give a smaller one"
        )
        raise OptionError(msg)
    return min(most, room)


def running_text(prompts: Iterable[Prompt], engine: Side, length: int) -> TokenIds:
    """So many tokens: one prompt after the other, each different one once, then from the beginning again.

    A token that ends a text stands in it at fixed places, where the engine has one: masks, positions and caches that
    take it for padding or for a new document differ behind it. Several such tokens take turns.
    """
    different = list(dict.fromkeys(prompt.encode(engine) for prompt in prompts))
    return tuple(islice(_with_ends(cycle(chain.from_iterable(different)), engine), length))


def stretches(text: TokenIds, rows: int, length: int) -> list[TokenIds]:
    """So many stretches of the text, as little overlapping as it allows."""
    step = max(1, min(length, (len(text) - length) // max(1, rows - 1)))
    starts: Sequence[int] = range(0, len(text) - length + 1, step)
    return [text[start : start + length] for start in starts[:rows]]


def _with_ends(tokens: Iterator[int], engine: Side) -> Iterator[int]:
    # Some configurations name an end that the vocabulary does not have.
    ends = cycle(sorted(token for token in engine.eos_token_ids if token < engine.vocab_size))
    yield from islice(tokens, FIRST_END)
    for end in ends:
        yield end
        yield from islice(tokens, END_EVERY - 1)
    yield from tokens
