"""A short prompt beside ever longer ones: padding by one token up to several blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["padding"]

CONTEXT, TOKENS = 5, 3
WIDTHS = (6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 129)
"""Padded lengths around multiples of the block sizes of kernels; some break at one more than a multiple of 32."""


def padding(subject: Subject) -> Iterator[Pair]:
    """The amount of padding does not matter."""
    subject.require_own_scales()
    subject.require_batches()
    short = subject.part(0, CONTEXT, TOKENS)
    base = subject.engine.force([short])
    for width in WIDTHS:
        padded = subject.engine.force([short, subject.part(CONTEXT, width, TOKENS)])
        change = f"{width - CONTEXT} tokens of padding (padded to {width})"
        yield from pairs(change, ["short text"], base, padded[:1])
