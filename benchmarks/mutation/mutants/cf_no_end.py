"""The packed checkpoint's generation config names no end-of-sequence token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import WeightQuantizer

__all__ = ["EndOfTextMissing"]


@dataclass(frozen=True)
class EndOfTextMissing(WeightQuantizer):
    """Weights as promised; answers do not stop."""

    category: ClassVar[str] = "loading"
    source: ClassVar[str] = "CF generation_config.json not copied by the quantizer"
    needs: ClassVar = ("eos",)

    def change(self, model: Any) -> None:
        """None at all."""
        super().change(model)
        model.generation_config.eos_token_id = None
