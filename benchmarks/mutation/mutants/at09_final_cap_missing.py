"""The cap on the logits is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import around, configured
from mutation import Mutant

__all__ = ["FinalCapMissing"]


@dataclass(frozen=True)
class FinalCapMissing(Mutant):
    """Greedy text is the same, since a cap keeps the order; log-probabilities are too peaked."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT09 vllm-project/vllm#52173"
    models: ClassVar = ("tiny-gemma",)
    needs: ClassVar = ("logprobs",)

    def change(self, model: Any) -> None:
        """Compute logits without it."""
        around(model, "forward", lambda: configured(model, final_logit_softcapping=None))
