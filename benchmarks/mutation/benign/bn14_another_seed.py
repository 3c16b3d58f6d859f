"""Sampling by other random numbers than the reference would take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy

__all__ = ["AnotherSeed"]


@dataclass(frozen=True)
class AnotherSeed(OnPermutedCopy):
    """Other text, the same distribution."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "BN14 vllm-project/vllm#13196"
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("sampling",)

    def change(self, model: Any) -> None:
        """Use up some numbers first."""
        import torch

        own = model.generate

        def generate(*args: Any, **kwargs: Any) -> Any:
            torch.rand(1 + self.seed)
            return own(*args, **kwargs)

        model.generate = generate
