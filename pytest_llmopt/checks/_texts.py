"""Running text made of the prompts: as long as a look at the depth of a context needs."""

from __future__ import annotations

from itertools import chain, cycle, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_llmopt.core.engine import Engine, TokenIds
    from pytest_llmopt.core.prompts import Prompt


def running_text(prompts: Iterable[Prompt], engine: Engine, length: int) -> TokenIds:
    """So many tokens: one prompt after the other, each different one once, then from the beginning again."""
    different = list(dict.fromkeys(prompt.encode(engine) for prompt in prompts))
    return tuple(islice(cycle(chain.from_iterable(different)), length))


def stretches(text: TokenIds, rows: int, length: int) -> list[TokenIds]:
    """So many stretches of the text, as little overlapping as it allows."""
    step = max(1, min(length, (len(text) - length) // max(1, rows - 1)))
    starts: Sequence[int] = range(0, len(text) - length + 1, step)
    return [text[start : start + length] for start in starts[:rows]]
