"""Every answer ends with its first token, and a sound draft has nothing to propose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _both import EndsAtOnce
from mutation import Mutant

__all__ = ["EndsAtOnceAssisted"]


@dataclass(frozen=True)
class EndsAtOnceAssisted(Mutant):
    """No draft can be accepted behind an end."""

    category: ClassVar[str] = "speculative_greedy"
    source: ClassVar[str] = "BN texts that end at once"
    base: ClassVar = (("decoding.assisted", {}),)
    both: ClassVar = (EndsAtOnce,)

    seed: int = 0

    def change(self, model: Any) -> None:
        """Nothing more."""
