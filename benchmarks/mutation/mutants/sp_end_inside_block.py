"""The end-of-sequence token is looked for only at the end of what a block emitted, not inside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["EndInsideBlock"]


@dataclass(frozen=True)
class EndInsideBlock(Mutant):
    """Where a draft proposes the end and is right, the target's next token hides it and the text goes on."""

    category: ClassVar[str] = "speculative_greedy"
    source: ClassVar[str] = "SP end of sequence inside a draft block (table O, 5)"
    base: ClassVar = (("decoding.assisted", {}),)
    needs: ClassVar[tuple[str, ...]] = ("eos",)

    def change(self, model: Any) -> None:
        """Take away what the loop cuts a block at; the stopping criterion has its own copy."""
        own = model._get_stopping_criteria  # noqa: SLF001 - the step before the loop

        def criteria(generation_config: Any, *args: Any, **kwargs: Any) -> Any:
            given = own(generation_config, *args, **kwargs)
            generation_config._eos_token_tensor = None  # noqa: SLF001 - read by the loop
            return given

        model._get_stopping_criteria = criteria  # noqa: SLF001
