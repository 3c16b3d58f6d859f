"""One text, cut at many places into a prompt and what is decoded after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import NotApplicableError, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Subject

__all__ = ["prompt_length"]

BLOCKS = (8, 16, 32, 64, 128)
SHIFTS = (0, 1, 2)
"""From one less than a block to one more."""
TOKENS = 3


def prompt_length(subject: Subject) -> Iterator[Pair]:
    """Prefill and decode agree: it does not matter where a text is cut, at blocks of kernels or the sliding window."""
    subject.require_own_scales()
    window = subject.inspection.sliding_window
    blocks = sorted({*BLOCKS, *((window, 2 * window) if window else ())})
    room = min(len(subject.text), subject.engine.max_length or len(subject.text)) - TOKENS - max(SHIFTS)
    fitting = [block for block in blocks if 1 < block <= room]
    if not fitting:
        msg = f"there is room for {subject.engine.max_length} tokens only"
        raise NotApplicableError(msg)
    for block in fitting:
        yield from _around(subject, block)


def _around(subject: Subject, block: int) -> Iterator[Pair]:
    """The same tokens three times: decoded across the block's end, and with that end in the prompt."""
    first = block - 1
    (base,) = subject.engine.force([subject.part(0, first, TOKENS + max(SHIFTS))])
    for shift in SHIFTS[1:]:
        part = subject.part(0, first + shift, TOKENS)
        (changed,) = subject.engine.force([part])
        evidence = base.logprobs[shift : shift + TOKENS]
        yield Pair(
            f"the prompt cut at {first + shift} tokens instead of {first}", "text", part, evidence, changed.logprobs
        )
