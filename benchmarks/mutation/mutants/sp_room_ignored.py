"""A block is not cut where the requested number of tokens is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["RoomIgnored"]


@dataclass(frozen=True)
class RoomIgnored(Mutant):
    """Requests come back a few tokens longer than asked; every token is right."""

    category: ClassVar[str] = "speculative_greedy"
    source: ClassVar[str] = "SP drafts longer than the room left (table O, 5)"
    base: ClassVar = (("decoding.assisted", {}),)

    def change(self, model: Any) -> None:
        """Leave room for a block more after the stopping criterion was made."""
        own = model._get_stopping_criteria  # noqa: SLF001 - the step before the loop

        def criteria(generation_config: Any, *args: Any, **kwargs: Any) -> Any:
            given = own(generation_config, *args, **kwargs)
            generation_config.max_length += 6
            return given

        model._get_stopping_criteria = criteria  # noqa: SLF001
