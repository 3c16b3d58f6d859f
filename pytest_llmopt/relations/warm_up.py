"""Another request first: longer, then shorter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["warm_up"]

LENGTHS = (3, 96)


def warm_up(subject: Subject) -> Iterator[Pair]:
    """An unrelated request before leaves nothing behind that shows in the next."""
    for length in LENGTHS:
        other = subject.text[-length:]
        subject.engine.generate([other], SamplingParams(max_new_tokens=6, ignore_eos=True))
        yield from subject.again(f"after an unrelated request of {len(other)} tokens")
