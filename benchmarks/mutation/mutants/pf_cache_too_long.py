"""The length of a static cache counts the batch twice: eight times the room that a request needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["CacheTooLong"]


@dataclass(frozen=True)
class CacheTooLong(Mutant):
    """Right outputs; memory and the time of every step are those of a much longer text."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "PF over-reservation (PF07 sgl-project/sglang#32459 reserves twice)"
    base: ClassVar = (("decoding.static_cache", {}),)

    def change(self, model: Any) -> None:
        """Ask for eight times as much."""
        own = model._prepare_static_cache  # noqa: SLF001 - where the library allocates it

        def prepare(*args: Any, max_cache_len: int, **kwargs: Any) -> Any:
            return own(*args, max_cache_len=8 * max_cache_len, **kwargs)

        model._prepare_static_cache = prepare  # noqa: SLF001
