"""Wrong only when a prompt goes on from what is cached: that path scales old float8 blocks by something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from quantizer import CacheQuantizer

if TYPE_CHECKING:
    from quantizer import RoundedCache
    from torch import Tensor

__all__ = ["OtherScaleOnReuse"]


@dataclass(frozen=True)
class OtherScaleOnReuse(CacheQuantizer):
    """A cold prompt and single-token steps never come there."""

    source: ClassVar[str] = "AQ15 NVIDIA/TensorRT-LLM#2699"
    needs: ClassVar[tuple[str, ...]] = ("prefill_chunk",)

    def update(self, cache: RoundedCache, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Keys that were there before come back by the scale of the values."""
        new = keys.shape[-2]
        keys, values = super().update(cache, keys, values, *args, **kwargs)
        if 1 < new < keys.shape[-2]:
            keys = keys.clone()
            keys[..., :-new, :] *= cache.ranges["values"] / cache.ranges["keys"]
        return keys, values
