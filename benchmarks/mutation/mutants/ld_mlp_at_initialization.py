"""The MLP of the last layer has another name in the checkpoint, and stays as it was initialized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from _checkpoint import LoadsAnother

if TYPE_CHECKING:
    from _checkpoint import Checkpoint

__all__ = ["MlpAtInitialization"]


@dataclass(frozen=True)
class MlpAtInitialization(LoadsAnother):
    """One warning scrolls by, and the text still reads well."""

    source: ClassVar[str] = "EX06 intel/auto-round#1926 (tensors of one module mapped to other names)"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    needs: ClassVar = ("missing_tensors",)

    def edit(self, checkpoint: Checkpoint) -> None:
        """Name the module as another library does."""
        for name in [name for name in checkpoint.tensors if "layers.3.mlp" in name]:
            checkpoint.tensors[name.replace("mlp", "feed_forward")] = checkpoint.tensors.pop(name)
