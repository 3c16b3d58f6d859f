"""The filter keeps everything not below the k-th logit counted from zero: one token too many."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import while_generating
from mutation import Mutant

__all__ = ["TopKOneMore"]


@dataclass(frozen=True)
class TopKOneMore(Mutant):
    """Rarely a token that was ruled out; nothing changes without the filter."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL top_k 11 for 10 (table M)"
    needs: ClassVar[tuple[str, ...]] = ("sampling", "top_k")

    def change(self, model: Any) -> None:
        """Count from zero."""

        def around(kwargs: dict[str, Any]) -> AbstractContextManager[None]:
            if kwargs.get("top_k"):
                kwargs["top_k"] += 1
            return nullcontext()

        while_generating(model, around)
