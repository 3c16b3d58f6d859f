"""One projection of one layer holds the weights of the layer after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from _checkpoint import LoadsAnother

if TYPE_CHECKING:
    from _checkpoint import Checkpoint

__all__ = ["AttentionOfNeighbor"]


@dataclass(frozen=True)
class AttentionOfNeighbor(LoadsAnother):
    """A single name that was mapped wrongly."""

    source: ClassVar[str] = "EX06 intel/auto-round#1926 (one projection)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-qwen",)

    def edit(self, checkpoint: Checkpoint) -> None:
        """The value projection of the first layer is that of the second."""
        name = "model.layers.0.self_attn.v_proj.weight"
        checkpoint.tensors[name] = checkpoint.tensors[name.replace("layers.0", "layers.1")]
