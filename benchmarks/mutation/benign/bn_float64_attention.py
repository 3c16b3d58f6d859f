"""Attention accumulates in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, as_mask, replace_kernel
from _benign import OnPermutedCopy

__all__ = ["Float64Attention"]


@dataclass(frozen=True)
class Float64Attention(OnPermutedCopy):
    """Closer to the truth than the reference."""

    source: ClassVar[str] = "BN08 pytorch/pytorch#183761 (wider accumulators)"
    models: ClassVar = ("tiny-gemma", "tiny-qwen")

    def change(self, model: Any) -> None:
        """Around the model's own kernel."""

        def wide(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            seen = as_mask(allowed(query, key, mask), query).double()
            output, weights = own(module, query.double(), key.double(), value.double(), seen, **options)
            return output.to(query.dtype), weights

        replace_kernel(model, wide)
