"""The exported prefill counts positions from the left edge, padding included; decode steps do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import reposition
from mutation import Mutant

__all__ = ["PrefillCountsPadding"]


@dataclass(frozen=True)
class PrefillCountsPadding(Mutant):
    """Results depend on the amount of padding."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "BP02 huggingface/optimum#877"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("padding",)

    def change(self, model: Any) -> None:
        """Ignore the mask where positions of a prompt are made."""
        import torch

        def wrong(positions: Any, past: int, _arguments: Any) -> Any:
            if positions.shape[-1] == 1:
                return positions
            return torch.arange(past, past + positions.shape[-1]).expand(positions.shape)

        reposition(model, wrong)
