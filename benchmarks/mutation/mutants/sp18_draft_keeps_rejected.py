"""The draft's states of its own proposals are never overwritten by those of the tokens that the target put there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import on_cache
from mutation import Mutant

__all__ = ["DraftKeepsRejected"]


@dataclass(frozen=True)
class DraftKeepsRejected(Mutant):
    """Outputs are unchanged, since the target verifies; fewer proposals are accepted."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "SP18 vllm-project/vllm#14649"
    base: ClassVar = (("decoding.assisted", {}),)

    def for_transformers(self, plan: Any) -> None:
        """Plant it into the draft, which the base loads."""
        plan.after_load.append(lambda _model: self.change(plan.generate["assistant_model"]))

    def change(self, model: Any) -> None:
        """Put back, at the next pass, what was cropped."""
        on_cache(model, lambda cache: [self._keep(layer) for layer in cache.layers])

    def _keep(self, layer: Any) -> None:
        own_crop, own_update, stale = layer.crop, layer.update, []

        def crop(tokens: int) -> None:
            if tokens:
                stale[:] = [layer.keys[..., tokens:, :].clone(), layer.values[..., tokens:, :].clone()]
            own_crop(tokens)

        def update(*args: Any, **kwargs: Any) -> Any:
            start = layer.get_seq_length()
            held = own_update(*args, **kwargs)
            for tensor, old in zip(held, stale, strict=False):
                room = min(old.shape[-2], tensor.shape[-2] - start)
                tensor[..., start : start + room, :] = old[..., :room, :]
            stale.clear()
            return held

        layer.crop, layer.update = crop, update
