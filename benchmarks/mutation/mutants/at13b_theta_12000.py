"""The rotary base is 12,000 where the checkpoint was trained with 10,000."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import frequencies
from mutation import Mutant

__all__ = ["ThetaTwelveThousand"]


@dataclass(frozen=True)
class ThetaTwelveThousand(Mutant):
    """Angles off by a few per cent in the slow dimensions."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT13 casper-hansen/AutoAWQ#568 (12000 for 10000, as in section M)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")

    def change(self, model: Any) -> None:
        """Compute the frequencies anew."""
        model.model.rotary_emb.inv_freq = frequencies(model, rope_theta=12000.0)
