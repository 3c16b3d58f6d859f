"""The highest bit of a single code is flipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import WeightQuantizer

__all__ = ["OneCode"]


@dataclass(frozen=True)
class OneCode(WeightQuantizer):
    """One weight has another sign."""

    source: ClassVar[str] = "WQ04 (one bit lost in a copy)"

    bits: int = 8
    group: int = 0

    def change(self, model: Any) -> None:
        """The largest one of a row."""
        super().change(model)
        codes = model.model.layers[0].self_attn.o_proj.weight
        column = int((codes[40].int() - 128).abs().argmax())
        codes[40, column] ^= 128
