"""The least probability of a request is read and never handed to the sampler."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import while_generating
from mutation import Mutant

__all__ = ["MinPIgnored"]


@dataclass(frozen=True)
class MinPIgnored(Mutant):
    """The tail that should be gone is sampled."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL min_p not applied (table O, 5; SL03 sgl-project/sglang#28179 is the same of a penalty)"
    needs: ClassVar[tuple[str, ...]] = ("sampling", "min_p")

    def change(self, model: Any) -> None:
        """Drop it."""

        def around(kwargs: dict[str, Any]) -> AbstractContextManager[None]:
            kwargs.pop("min_p", None)
            return nullcontext()

        while_generating(model, around)
