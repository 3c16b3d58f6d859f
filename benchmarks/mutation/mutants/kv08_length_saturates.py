"""The length of the cache is asked of a local layer, so that positions stop counting at the window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import reposition
from mutation import Mutant

__all__ = ["LengthSaturates"]


@dataclass(frozen=True)
class LengthSaturates(Mutant):
    """Every decode step beyond the window runs at the same position."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KV08 huggingface/transformers#38156"
    models: ClassVar = ("tiny-gemma",)
    needs: ClassVar = ("window", "decode")

    def change(self, model: Any) -> None:
        """Decode no further than the position of the window's end."""
        window = model.config.sliding_window

        def wrong(positions: Any, _past: int, _arguments: Any) -> Any:
            return positions.clamp(max=window) if positions.shape[-1] == 1 else positions

        reposition(model, wrong)
