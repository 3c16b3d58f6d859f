"""Every decode step has a shape of its own, and the compiler is told that shapes are static."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["GrowingShapes"]


@dataclass(frozen=True)
class GrowingShapes(Mutant):
    """The text is right; each step compiles anew until the compiler gives up."""

    category: ClassVar[str] = "graph_capture"
    source: ClassVar[str] = "CG07 huggingface/transformers#37908"
    base: ClassVar = (("decoding.compiled", {"backend": "aot_eager"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("counters",)

    def change(self, model: Any) -> None:
        """Compile again, with static shapes only."""
        import torch

        model.forward = torch.compile(type(model).forward.__get__(model), backend="aot_eager", dynamic=False)
