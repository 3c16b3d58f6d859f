"""A rejected proposal is replaced by a draw from the target's whole law, not from what the draft left of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import Verification

__all__ = ["ResidualOfTarget"]


@dataclass(frozen=True)
class ResidualOfTarget(Verification):
    """Tokens that the draft likes come up too often."""

    source: ClassVar[str] = "SP residual = p (table M), algorithm 1 of Leviathan et al. with its last step left out"

    def residual(self, p: Any, _q: Any, _proposal: Any) -> Any:
        """The target's own law."""
        return p
