"""From the second on, every layer is loaded with the weights of the layer before it: an index that starts at one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from _checkpoint import LoadsAnother

if TYPE_CHECKING:
    from _checkpoint import Checkpoint

__all__ = ["LayersShifted"]


@dataclass(frozen=True)
class LayersShifted(LoadsAnother):
    """All shapes fit, and nothing is missing."""

    source: ClassVar[str] = "EX06 intel/auto-round#1926 (layer i gets the weights of layer i-1)"
    base: ClassVar = (("decoding.assisted", {}),)
    models: ClassVar = ("tiny-gemma",)

    def edit(self, checkpoint: Checkpoint) -> None:
        """Move them up by one, the first twice."""
        own = dict(checkpoint.tensors)
        for name in own:
            for layer in (1, 2, 3):
                if f"layers.{layer}." in name:
                    checkpoint.tensors[name] = own[name.replace(f"layers.{layer}.", f"layers.{layer - 1}.")]
