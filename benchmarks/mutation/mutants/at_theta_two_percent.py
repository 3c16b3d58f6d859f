"""The base of the rotary frequencies is two percent too large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import frequencies
from mutation import Mutant

__all__ = ["ThetaTwoPercent"]


@dataclass(frozen=True)
class ThetaTwoPercent(Mutant):
    """Hardly an angle differs within a sentence."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT13 casper-hansen/AutoAWQ#568 (theta rounded)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-qwen",)

    def change(self, model: Any) -> None:
        """10200 for 10000."""
        model.model.rotary_emb.inv_freq.copy_(frequencies(model, rope_theta=10200.0))
