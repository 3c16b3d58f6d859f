"""The packed checkpoint's configuration states half of the RoPE scaling factor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import frequencies
from quantizer import Export

__all__ = ["ScalingFactor"]


@dataclass(frozen=True)
class ScalingFactor(Export):
    """Low frequencies turn twice as fast; the others are the same."""

    category: ClassVar[str] = "loading"
    source: ClassVar[str] = "AT14 unslothai/unsloth#6197 (another factor in the packed checkpoint)"
    needs: ClassVar = ("long_prompt",)

    def change(self, model: Any) -> None:
        """A factor of 4 for 8, in the frequencies and in what the configuration says."""
        own = frequencies(model, factor=4.0)
        model.model.rotary_emb.inv_freq.copy_(own)
        model.config.rope_parameters = {**model.config.rope_parameters, "factor": 4.0}
        super().change(model)
