"""Once in a while the comparison reads proposals that are not copied yet, and lets a wrong one through."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, ClassVar

from _speculation import Acceptance

__all__ = ["RareWrongProposal"]


@dataclass(frozen=True)
class RareWrongProposal(Acceptance):
    """A race: one comparison in forty is not made."""

    source: ClassVar[str] = "SP race between draft and verification, a rare face of SP01 huggingface/transformers#28508"
    comparisons: Any = field(default_factory=itertools.count, init=False, repr=False, compare=False)

    def accepts(self, _scores: Any, _proposal: int, _place: int, _length: int) -> bool:
        """Every fortieth time it is asked."""
        return next(self.comparisons) % 40 == 39
