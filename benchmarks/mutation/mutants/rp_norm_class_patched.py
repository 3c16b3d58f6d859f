"""A kernel library replaces the forward of the norm's class, with another epsilon, for every model of the process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from mutation import Mutant

__all__ = ["NormClassPatched"]


@dataclass(frozen=True)
class NormClassPatched(Mutant):
    """Both sides change alike, whatever was loaded before."""

    category: ClassVar[str] = "graph_capture"
    source: ClassVar[str] = "RP kernels that patch transformers classes (monkey patches of kernel libraries)"
    patches_reference: ClassVar[bool] = True
    models: ClassVar = ("tiny-llama",)

    def change(self, model: Any) -> None:
        """For good."""
        kind = type(model.model.norm)

        def forward(norm: Any, hidden: Any) -> Any:
            variance = hidden.float().square().mean(-1, keepdim=True)
            return norm.weight * (hidden.float() * torch.rsqrt(variance + 0.05)).to(hidden.dtype)

        kind.forward = forward
