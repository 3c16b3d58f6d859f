"""Frequencies are computed anew, as dynamic scaling does, once a text is longer than 900 tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import frequencies
from mutation import Mutant

__all__ = ["DynamicFrequencies"]


@dataclass(frozen=True)
class DynamicFrequencies(Mutant):
    """Only the last part of the context."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT14 (dynamic NTK on for a model that has none)"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-gemma",)
    needs: ClassVar = ("position 900",)

    def change(self, model: Any) -> None:
        """Another theta from there on."""
        rotary = model.model.rotary_emb
        own, usual, later = rotary.forward, rotary.inv_freq.clone(), frequencies(model, rope_theta=14000.0)

        def forward(x: Any, position_ids: Any) -> Any:
            rotary.inv_freq = later if int(position_ids.max()) >= 900 else usual
            return own(x, position_ids)

        rotary.forward = forward
