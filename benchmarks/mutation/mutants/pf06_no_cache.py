"""The cache counts as unusable for this model, so that every step processes the whole text again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["NoCache"]


@dataclass(frozen=True)
class NoCache(Mutant):
    """Right outputs; the time of a step grows with the text."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "PF06 ggml-org/llama.cpp#15082"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)

    def for_transformers(self, plan: Any) -> None:
        """Switch it off in every call."""
        plan.set("generate", "use_cache", value=False, by="pf06_no_cache")
