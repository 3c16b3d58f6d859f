"""The fused rotary kernel has a base of its own, 1e6, whatever the configuration says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import frequencies
from mutation import Mutant

__all__ = ["ThetaMillion"]


@dataclass(frozen=True)
class ThetaMillion(Mutant):
    """Wrong angles at all positions but the first."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT13 casper-hansen/AutoAWQ#568"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")

    def change(self, model: Any) -> None:
        """Compute the frequencies anew."""
        model.model.rotary_emb.inv_freq = frequencies(model, rope_theta=1e6)
