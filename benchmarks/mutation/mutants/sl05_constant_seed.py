"""Every call of the sampler starts from the same state of its generator."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import while_generating
from mutation import Mutant

__all__ = ["ConstantSeed"]


@dataclass(frozen=True)
class ConstantSeed(Mutant):
    """The same prompt gets the same text however high the temperature."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL05 vllm-project/vllm#26859"
    needs: ClassVar[tuple[str, ...]] = ("sampling", "second_call")

    def change(self, model: Any) -> None:
        """Seed once more, after the request did."""

        def around(_kwargs: dict[str, Any]) -> AbstractContextManager[None]:
            import torch

            torch.manual_seed(1234)
            return nullcontext()

        while_generating(model, around)
