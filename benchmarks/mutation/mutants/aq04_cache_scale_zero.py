"""All scales of the cache are 0 in the checkpoint: in one release the hooks that calibrate saw nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from quantizer import CacheQuantizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["CacheScaleZero"]


@dataclass(frozen=True)
class CacheScaleZero(CacheQuantizer):
    """Codes overflow to the largest number, and 0 times it is 0."""

    source: ClassVar[str] = "AQ04 vllm-project/llm-compressor#2117"

    def scale(self, kind: str, states: Tensor, ranges: Mapping[str, float]) -> Tensor:
        """Never updated."""
        return torch.zeros_like(super().scale(kind, states, ranges))
