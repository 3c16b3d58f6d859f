"""Every proposal of the draft is accepted: the count of matches is the length of the block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import Verification

__all__ = ["AcceptsEverything"]


@dataclass(frozen=True)
class AcceptsEverything(Verification):
    """The text reads well, but it is the draft's text; only sampling shows it."""

    source: ClassVar[str] = "SP01 huggingface/transformers#28508"

    def matches(self, chance: Any) -> int:
        """All of them."""
        return len(chance)
