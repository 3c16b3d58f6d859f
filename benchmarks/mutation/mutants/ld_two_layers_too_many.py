"""The configuration names two layers more than the checkpoint has; both sides are loaded from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from _checkpoint import edited
from mutation import Mutant

if TYPE_CHECKING:
    from _checkpoint import Checkpoint

__all__ = ["TwoLayersTooMany"]


@dataclass(frozen=True)
class TwoLayersTooMany(Mutant):
    """What is last in the model was never trained, on both sides alike."""

    category: ClassVar[str] = "loading"
    source: ClassVar[str] = "EX06 (config of a deeper sibling beside the weights)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    needs: ClassVar = ("missing_tensors",)

    @classmethod
    def model_under_test(cls) -> str:
        """A checkpoint with the configuration of a deeper model."""

        def edit(checkpoint: Checkpoint) -> None:
            checkpoint.config["num_hidden_layers"] += 2

        return edited(cls.models[0], cls.__name__, edit)

    def change(self, model: Any) -> None:
        """The checkpoint is enough."""
