"""A position in a prompt, as a person reads it: the text before it, and what both sides wanted to say there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import FloatArray, TopLogprobs
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import Continuation

SHOWN = 5
CONTEXT_TOKENS = 12


@dataclass(frozen=True)
class Place:
    """One scored position: which prompt, which token of its continuation."""

    prompt_id: str
    continuation: Continuation
    index: int

    def describe(self, engine: Side, reference: TopLogprobs, candidate: TopLogprobs) -> list[str]:
        """Three lines: where it is, the text that leads there, and the favorites of both sides."""
        position = len(self.continuation.prompt_ids) + self.index
        before = (self.continuation.prompt_ids + self.continuation.token_ids)[:position]
        emitted = engine.decode([self.continuation.token_ids[self.index]])
        return [
            f"prompt {self.prompt_id}, token {self.index} after it (position {position}), {emitted!r} there",
            f"  ... {engine.decode(before[-CONTEXT_TOKENS:])!r} >",
            f"  reference {favorites(engine, reference, self.index)}",
            f"  candidate {favorites(engine, candidate, self.index)}",
        ]


def favorites(engine: Side, logprobs: TopLogprobs, index: int) -> str:
    """The most probable tokens at a position, with their probabilities."""
    shown = zip(logprobs.top_ids[index, :SHOWN], logprobs.top_logprobs[index, :SHOWN], strict=True)
    return ", ".join(f"{engine.decode([int(token)])!r} {np.exp(logprob):.3f}" for token, logprob in shown)


def worst_place(
    prompt_ids: Sequence[str], continuations: Sequence[Continuation], values: Sequence[FloatArray]
) -> tuple[int, Place]:
    """The place of the largest value (NaN counts as largest), and which of the continuations it is in."""
    worst = [float(np.max(np.where(np.isnan(value), np.inf, value))) for value in values]
    row = int(np.argmax(worst))
    index = int(np.argmax(np.where(np.isnan(values[row]), np.inf, values[row])))
    return row, Place(prompt_ids[row], continuations[row], index)
