"""A list keeps the cache of every call, for statistics that nobody reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["MemoryPerCall"]


@dataclass(frozen=True)
class MemoryPerCall(Mutant):
    """Outputs are right; memory grows with every request until the process dies."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "PF02 NVIDIA/TensorRT-LLM#491"
    needs: ClassVar[tuple[str, ...]] = ("many_calls",)
    kept: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def change(self, model: Any) -> None:
        """Keep it."""
        own = model.generate

        def generate(*args: Any, **kwargs: Any) -> Any:
            output = own(*args, **kwargs)
            self.kept.append(output.past_key_values)
            return output

        model.generate = generate
