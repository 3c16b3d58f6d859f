"""The MLPs accumulate in double precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy

__all__ = ["Float64Mlp"]


@dataclass(frozen=True)
class Float64Mlp(OnPermutedCopy):
    """Closer to the truth than the reference is."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "BN08 pytorch/pytorch#183761"

    def change(self, model: Any) -> None:
        """Compute them in float64 and round the result."""
        for layer in model.model.layers:
            layer.mlp.double()
            layer.mlp.register_forward_pre_hook(lambda _mlp, args: (args[0].double(),))
            layer.mlp.register_forward_hook(lambda _mlp, _args, output: output.float())
