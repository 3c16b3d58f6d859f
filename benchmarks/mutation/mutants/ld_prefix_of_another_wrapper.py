"""Every tensor has the prefix of a training wrapper and none is found; both sides are loaded from this checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from _checkpoint import edited
from mutation import Mutant

if TYPE_CHECKING:
    from _checkpoint import Checkpoint

__all__ = ["PrefixOfAnotherWrapper"]


@dataclass(frozen=True)
class PrefixOfAnotherWrapper(Mutant):
    """Candidate and reference are the same random model, and agree in everything."""

    category: ClassVar[str] = "loading"
    source: ClassVar[str] = "EX06 (tensors saved from inside a wrapper: `_orig_mod.`, `module.`)"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704}),)
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("missing_tensors",)

    @classmethod
    def model_under_test(cls) -> str:
        """A checkpoint of a compiled and wrapped model."""

        def edit(checkpoint: Checkpoint) -> None:
            checkpoint.tensors = {f"student.{name}": tensor for name, tensor in checkpoint.tensors.items()}

        return edited(cls.models[0], cls.__name__, edit)

    def change(self, model: Any) -> None:
        """The checkpoint is enough."""
