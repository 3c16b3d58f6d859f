"""The draft sampled, but is verified as if it had been certain of its proposals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import Verification

__all__ = ["OneHotDraft"]


@dataclass(frozen=True)
class OneHotDraft(Verification):
    """Still lossless, with half of the acceptance."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "SP17 vllm-project/vllm#40149"

    def chance(self, p: Any, _q: Any, proposals: Any) -> Any:
        """The target's own probability."""
        return p[range(len(proposals)), proposals]

    def residual(self, p: Any, _q: Any, proposal: Any) -> Any:
        """All but the proposal."""
        left = p.clone()
        left[proposal] = 0.0
        return left
