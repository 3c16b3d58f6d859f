"""Honest nf4 of matrices with 352 columns, so that blocks of 64 cross rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from _checkpoint import edited
from mutation import Mutant

if TYPE_CHECKING:
    from _checkpoint import Checkpoint

__all__ = ["Nf4OddColumns"]


@dataclass(frozen=True)
class Nf4OddColumns(Mutant):
    """A model whose MLP is narrower; both sides are loaded from it."""

    category: ClassVar[str] = "weight_quantization"
    source: ClassVar[str] = "L nf4 (arXiv:2305.14314), columns that no block divides"
    base: ClassVar = (("quantization.bitsandbytes", {}),)

    seed: int = 0

    @classmethod
    def model_under_test(cls) -> str:
        """The largest neurons of each MLP."""

        def edit(checkpoint: Checkpoint) -> None:
            checkpoint.config["intermediate_size"] = 352
            for layer in range(checkpoint.config["num_hidden_layers"]):
                names = {part: f"model.layers.{layer}.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}
                sizes = checkpoint.tensors[names["down"]].float().norm(dim=0)
                kept = sizes.argsort(descending=True)[:352].sort().values
                for part in ("gate", "up"):
                    checkpoint.tensors[names[part]] = checkpoint.tensors[names[part]][kept]
                checkpoint.tensors[names["down"]] = checkpoint.tensors[names["down"]][:, kept]

        return edited(cls.models[0], cls.__name__, edit)

    def change(self, model: Any) -> None:
        """The base is enough."""
