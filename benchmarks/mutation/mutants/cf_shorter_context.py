"""The packed checkpoint's configuration states a quarter of the context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import Export

__all__ = ["ShorterContext"]


@dataclass(frozen=True)
class ShorterContext(Export):
    """Whatever asks the configuration refuses long requests."""

    category: ClassVar[str] = "loading"
    source: ClassVar[str] = "CF max_position_embeddings set to the length of calibration"
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("very_long_prompt",)

    def change(self, model: Any) -> None:
        """As long as the calibration text was."""
        super().change(model)
        model.config.max_position_embeddings //= 4
