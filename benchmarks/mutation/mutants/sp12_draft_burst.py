"""While the draft runs ahead, its sliding layers return more keys than the mask has: the newest fall off its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import on_cache
from mutation import Mutant

__all__ = ["DraftBurst"]


@dataclass(frozen=True)
class DraftBurst(Mutant):
    """Past the window the draft no longer sees what it has just proposed; the target rejects most of it."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "SP12 huggingface/transformers#48280"
    base: ClassVar = (("decoding.assisted", {}),)
    models: ClassVar[tuple[str, ...]] = ("tiny-gemma",)
    needs: ClassVar[tuple[str, ...]] = ("window",)

    def for_transformers(self, plan: Any) -> None:
        """Plant it into the draft, which the base loads."""
        plan.after_load.append(lambda _model: self.change(plan.generate["assistant_model"]))

    def change(self, model: Any) -> None:
        """Let the mask fit the oldest keys instead of the newest."""

        def front(cache: Any) -> None:
            for layer in (layer for layer in cache.layers if layer.is_sliding):
                own = layer.update

                def update(keys: Any, *args: Any, own: Any = own, layer: Any = layer, **kwargs: Any) -> Any:
                    width = own(keys, *args, **kwargs)[0].shape[-2]
                    return layer.keys[..., :width, :], layer.values[..., :width, :]

                layer.update = update

        on_cache(model, front)
