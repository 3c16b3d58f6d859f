"""The scaling of rotary frequencies is dropped and the plain ones are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import frequencies
from mutation import Mutant

__all__ = ["RopeScalingDropped"]


@dataclass(frozen=True)
class RopeScalingDropped(Mutant):
    """Near positions are nearly right, far ones are not."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT14 unslothai/unsloth#6197"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    needs: ClassVar = ("long_prompt",)

    def change(self, model: Any) -> None:
        """Compute the frequencies without scaling."""
        model.model.rotary_emb.inv_freq = frequencies(model, rope_type="default")
