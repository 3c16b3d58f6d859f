"""The comparison stops one proposal early: the last one of a block is accepted with the one before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import Acceptance

__all__ = ["LastProposalUnchecked"]


@dataclass(frozen=True)
class LastProposalUnchecked(Acceptance):
    """Wrong drafts get through only where all before them were right."""

    source: ClassVar[str] = "SP loop bound off by one, the greedy face of SP01 huggingface/transformers#28508"

    def accepts(self, _scores: Any, _proposal: int, place: int, length: int) -> bool:
        """The last place of a whole block."""
        return place == length - 1 and length > 1
