"""The same prompts in another order, at equal lengths, so that no engine sorts them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["prompt_order"]

PROMPTS, CONTEXT, TOKENS = 4, 14, 4


def prompt_order(subject: Subject) -> Iterator[Pair]:
    """The order of the prompts does not matter."""
    parts = [subject.part(number * (CONTEXT + TOKENS), CONTEXT, TOKENS) for number in range(PROMPTS)]
    base = subject.engine.force(parts)
    names = [f"text {number}" for number in range(PROMPTS)]
    for change, order in (("the first two swapped", (1, 0, 2, 3)), ("the order reversed", (3, 2, 1, 0))):
        moved = subject.engine.force([parts[place] for place in order])
        changed = [moved[order.index(place)] for place in range(PROMPTS)]
        yield from pairs(change, names, base, changed)
