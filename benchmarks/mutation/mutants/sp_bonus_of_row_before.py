"""After a block that was accepted whole, the bonus token is drawn from the row of the last proposal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import Verification

__all__ = ["BonusOfRowBefore"]


@dataclass(frozen=True)
class BonusOfRowBefore(Verification):
    """An index off by one: one token in a block too many is drawn from the law of the token before it."""

    source: ClassVar[str] = "SP bonus row off by one, the same index slip as SP11 huggingface/transformers#30042"

    def bonus(self, p: Any, _q: Any) -> Any:
        """The last row but one."""
        return p[-2]
