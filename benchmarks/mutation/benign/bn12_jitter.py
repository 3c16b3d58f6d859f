"""Partial sums of the MLPs are added in whatever order they arrive: no two passes round alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy, linears

__all__ = ["Jitter"]


@dataclass(frozen=True)
class Jitter(OnPermutedCopy):
    """A reduction with atomics."""

    category: ClassVar[str] = "weight_quantization"
    source: ClassVar[str] = "BN12 vllm-project/vllm#7137"

    def change(self, model: Any) -> None:
        """Cut the inner dimension somewhere else each time."""
        from random import Random

        from torch.nn.functional import linear

        chance = Random(self.seed)  # noqa: S311
        for module in linears(model, "down_proj"):

            def forward(x: Any, module: Any = module) -> Any:
                cut = chance.randrange(1, module.in_features)
                return linear(x[..., :cut], module.weight[:, :cut]) + linear(x[..., cut:], module.weight[:, cut:])

            module.forward = forward
