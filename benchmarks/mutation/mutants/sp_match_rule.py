"""A proposal is accepted if it is the target's favorite, as in greedy decoding, although tokens are sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import Verification

__all__ = ["MatchRule"]


@dataclass(frozen=True)
class MatchRule(Verification):
    """Favorites come up too often, and the residual is that of another rule."""

    source: ClassVar[str] = "SP greedy-match rule used for sampling (table M)"

    def chance(self, p: Any, _q: Any, proposals: Any) -> Any:
        """Certainty or nothing."""
        return (p[:-1].argmax(-1) == proposals).float()

    def matches(self, chance: Any) -> int:
        """Those before the first mismatch."""
        return int(chance.cumprod(0).sum())
