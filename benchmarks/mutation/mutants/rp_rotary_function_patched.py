"""A fused rotary function is put into the library's module; it pairs neighbors instead of halves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from mutation import Mutant

__all__ = ["RotaryFunctionPatched"]


@dataclass(frozen=True)
class RotaryFunctionPatched(Mutant):
    """A model opened before or after looks it up there, too."""

    category: ClassVar[str] = "graph_capture"
    source: ClassVar[str] = "RP apply_rotary_pos_emb replaced in the module"
    patches_reference: ClassVar[bool] = True
    models: ClassVar = ("tiny-qwen",)

    def change(self, model: Any) -> None:
        """For good."""
        import sys

        module: Any = sys.modules[type(model).__module__]

        def turned(states: Any) -> Any:
            return torch.stack((-states[..., 1::2], states[..., 0::2]), dim=-1).flatten(-2)

        def rotate(query: Any, key: Any, cos: Any, sin: Any, unsqueeze_dim: int = 1) -> Any:
            cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
            return query * cos + turned(query) * sin, key * cos + turned(key) * sin

        module.apply_rotary_pos_emb = rotate
