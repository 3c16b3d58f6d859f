"""The head runs over every position of the prompt although only the last one is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["LogitsOfEveryToken"]


@dataclass(frozen=True)
class LogitsOfEveryToken(Mutant):
    """Right outputs; a long prompt times a large vocabulary is held at once."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "PF logits_to_keep not handed on (no issue of the catalogue)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)

    def change(self, model: Any) -> None:
        """Drop the argument."""

        def all_of_them(_model: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            return args, kwargs | {"logits_to_keep": 0}

        model.register_forward_pre_hook(all_of_them, with_kwargs=True)
