"""What a request asks of both sides: these stand below a mutant, on candidate and reference alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["EndsAtOnce", "Penalized"]


@dataclass(frozen=True)
class Penalized(Mutant):
    """Every request has a repetition penalty of 1.1."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL03"

    def for_transformers(self, plan: Any) -> None:
        """As a keyword of every call."""
        plan.set("generate", "repetition_penalty", 1.1, by="penalized")


@dataclass(frozen=True)
class EndsAtOnce(Mutant):
    """Every answer is its end: a model that has nothing to add."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "prompts that are complete"

    def change(self, model: Any) -> None:
        """Raise the end's logit far above the others."""
        end = model.config.eos_token_id

        def raised(_head: Any, _args: Any, logits: Any) -> Any:
            logits = logits.clone()
            logits[..., end] += 60
            return logits

        model.get_output_embeddings().register_forward_hook(raised)
