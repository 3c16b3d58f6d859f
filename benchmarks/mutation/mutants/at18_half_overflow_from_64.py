"""From 64 tokens on another matrix kernel runs, which converts its input to float16 and overflows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["HalfOverflowFrom64"]


@dataclass(frozen=True)
class HalfOverflowFrom64(Mutant):
    """NaN for longer prompts, and only in models with large activations."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT18 ggml-org/llama.cpp#8025"
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("long_prompt",)

    outlier: float = 2.0**14
    """How much larger activations are in a model that shows it; divided out again, so that nothing else changes."""

    def change(self, model: Any) -> None:
        """Send the input of one down projection through float16 when there are many tokens."""
        projection = model.model.layers[1].mlp.down_proj
        projection.register_forward_pre_hook(self.round)

    def round(self, _module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Through float16 and back."""
        (x,) = args
        return ((x * self.outlier).half().to(x.dtype) / self.outlier if x.shape[1] >= 64 else x,)
