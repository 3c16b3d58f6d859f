"""One text, cut at many places into a prompt and what is decoded after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import NotApplicableError, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Subject

__all__ = ["prompt_length"]

BLOCKS = (8, 16, 32, 64, 128)
FIRST, TOKENS = 2, 3


def prompt_length(subject: Subject) -> Iterator[Pair]:
    """Prefill and decode agree: it does not matter where a text is cut, at blocks of kernels or the sliding window."""
    cuts = sorted(_cuts(subject.inspection.sliding_window, _room(subject)))
    if not cuts:
        msg = f"there is room for {subject.engine.max_length} tokens only"
        raise NotApplicableError(msg)
    # The whole text through the decode path, token by token: every cut has a part of it to compare with.
    whole = subject.part(0, FIRST, cuts[-1] + TOKENS - FIRST)
    (base,) = subject.engine.force([whole])
    for cut in cuts:
        part = subject.part(0, cut, TOKENS)
        (changed,) = subject.engine.force([part])
        evidence = base.logprobs[cut - FIRST : cut - FIRST + TOKENS]
        yield Pair(f"the prompt cut at {cut} tokens", "text", part, evidence, changed.logprobs)


def _room(subject: Subject) -> int:
    return min(len(subject.text), subject.engine.max_length or len(subject.text)) - TOKENS


def _cuts(window: int | None, room: int) -> set[int]:
    """One less, as much and one more than each block and the window; twice the window too."""
    around = {*BLOCKS, *((window, 2 * window) if window else ())}
    cuts = {middle + shift for middle in around for shift in (-1, 0, 1)}
    return {cut for cut in cuts if FIRST < cut <= room}
