"""A table of rotary angles has 512 rows; later positions take the last one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["PositionsClamped"]


@dataclass(frozen=True)
class PositionsClamped(Mutant):
    """Right up to there."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT14 (a table sized by an older configuration)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    needs: ClassVar = ("position 512",)

    def change(self, model: Any) -> None:
        """Clamp."""
        rotary = model.model.rotary_emb
        own = rotary.forward
        rotary.forward = lambda x, position_ids: own(x, position_ids.clamp(max=511))
