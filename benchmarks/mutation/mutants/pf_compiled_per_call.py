"""Every request wraps the model anew, so that no compiled graph is ever used twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["CompiledPerCall"]


@dataclass(frozen=True)
class CompiledPerCall(Mutant):
    """Right outputs; each call pays for its compilation."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "PF compiled anew for each call (no issue of the catalogue; CG07 is the same per step)"
    base: ClassVar = (("decoding.compiled", {"backend": "eager"}),)
    needs: ClassVar[tuple[str, ...]] = ("second_call",)

    def change(self, model: Any) -> None:
        """Forget the graphs of this function before each call."""
        import torch

        own = model.generate

        def generate(*args: Any, **kwargs: Any) -> Any:
            torch._dynamo.reset()  # noqa: SLF001 - the library has no public name for it
            return own(*args, **kwargs)

        model.generate = generate
