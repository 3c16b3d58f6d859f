"""Proposals are accepted for being typical of the target, without a draw, as Medusa does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import Verification

__all__ = ["TypicalAcceptance"]


@dataclass(frozen=True)
class TypicalAcceptance(Verification):
    """Fast and plausible, and another distribution: unlikely tokens vanish where the target is unsure."""

    source: ClassVar[str] = "SP typical acceptance of FasterDecoding/Medusa taken for lossless"

    def chance(self, p: Any, _q: Any, proposals: Any) -> Any:
        """Certain above a threshold that falls with the entropy."""
        law = p[:-1]
        entropy = -(law * law.clamp(min=1e-9).log()).sum(-1)
        return (law[range(len(proposals)), proposals] > (0.3 * (-entropy).exp()).clamp(max=0.09)).float() * 2

    def residual(self, p: Any, _q: Any, _proposal: Any) -> Any:
        """The target's own law."""
        return p
