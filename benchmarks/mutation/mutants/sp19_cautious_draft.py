"""The draft stops at the first token that it is not nearly certain of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["CautiousDraft"]


@dataclass(frozen=True)
class CautiousDraft(Mutant):
    """Acceptance of almost 100 %, and slower than no draft: hardly a block is longer than one token."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "SP19 ggml-org/llama.cpp#3919"
    base: ClassVar = (("decoding.assisted", {}),)

    def for_transformers(self, plan: Any) -> None:
        """Set the least confidence of the draft."""
        plan.after_load.append(lambda _model: self.change(plan.generate["assistant_model"]))

    def change(self, model: Any) -> None:
        """To 0.95."""
        model.generation_config.assistant_confidence_threshold = 0.95
