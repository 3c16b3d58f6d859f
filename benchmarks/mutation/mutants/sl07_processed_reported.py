"""Logits are warped in place before they are copied for the report: what is called raw is processed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["ProcessedReported"]


@dataclass(frozen=True)
class ProcessedReported(Mutant):
    """The tokens are right; the log-probabilities that come with them are those at the temperature of the request."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL07 vllm-project/vllm#30846"
    base: ClassVar = (("decoding.assisted", {}),)
    needs: ClassVar[tuple[str, ...]] = ("sampling",)

    def change(self, model: Any) -> None:
        """Report the scores instead."""
        own = model.generate

        def generate(*args: Any, **kwargs: Any) -> Any:
            output = own(*args, output_scores=True, **kwargs)
            output.logits = output.scores
            return output

        model.generate = generate
