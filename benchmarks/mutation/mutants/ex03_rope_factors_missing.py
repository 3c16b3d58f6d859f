"""Short prompts are perfect, long ones are not: the converter never writes the factors of scaled frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import Export

__all__ = ["RopeFactorsMissing"]


@dataclass(frozen=True)
class RopeFactorsMissing(Export):
    """The hook for tensors that are computed, not copied, is not called."""

    source: ClassVar[str] = "EX03 ikawrakow/ik_llama.cpp#402"
    needs: ClassVar[tuple[str, ...]] = ("long_prompt",)

    def change(self, model: Any) -> None:
        """The frequencies of a model that scales none."""
        super().change(model)
        rotary = model.model.rotary_emb
        rotary.inv_freq = rotary.compute_default_rope_parameters(model.config)[0]
