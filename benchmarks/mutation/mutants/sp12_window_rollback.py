"""A rolling window forgets its oldest tokens while proposals pass through; rejecting those does not bring them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import on_cache
from mutation import Mutant

__all__ = ["WindowRollback"]


@dataclass(frozen=True)
class WindowRollback(Mutant):
    """Past the window, every rejected proposal costs the sliding layers one token of their past."""

    category: ClassVar[str] = "speculative_greedy"
    source: ClassVar[str] = "SP12 huggingface/transformers#47447"
    base: ClassVar = (("decoding.assisted", {}),)
    models: ClassVar[tuple[str, ...]] = ("tiny-gemma",)
    needs: ClassVar[tuple[str, ...]] = ("window",)

    def change(self, model: Any) -> None:
        """Blank what a layer that records no past would have lost when the block came in."""

        def forget(cache: Any) -> None:
            own = cache.crop

            def crop(tokens: int) -> None:
                own(tokens)
                for layer in cache.layers:
                    if layer.is_sliding and layer.get_seq_length() - tokens >= layer.sliding_window:
                        layer.keys[:, :, :-tokens] = layer.values[:, :, :-tokens] = 0.0

            cache.crop = lambda tokens: crop(tokens) if tokens else own(tokens)

        on_cache(model, forget)
