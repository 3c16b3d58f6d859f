"""The packed checkpoint's configuration has one layer less than the model: the last one is unexpected, and left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from _checkpoint import edited
from quantizer import Export

if TYPE_CHECKING:
    from _checkpoint import Checkpoint

__all__ = ["LastLayerUnexpected"]


@dataclass(frozen=True)
class LastLayerUnexpected(Export):
    """Smaller and faster, and a little worse."""

    category: ClassVar[str] = "loading"
    source: ClassVar[str] = "EX06 (num_hidden_layers counted from zero)"
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("unexpected_tensors",)

    def for_transformers(self, plan: Any) -> None:
        """Load it like that, then quantize."""

        def edit(checkpoint: Checkpoint) -> None:
            checkpoint.config["num_hidden_layers"] -= 1
            checkpoint.config["layer_types"] = checkpoint.config["layer_types"][:-1]

        plan.weights = edited(self.models[0], type(self).__name__, edit)
        super().for_transformers(plan)
