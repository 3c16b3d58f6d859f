"""Confident gibberish from a healthy server: values are rotated to be quantized, and nobody rotates them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from quantizer import CacheQuantizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["ValuesLeftRotated"]


@dataclass(frozen=True)
class ValuesLeftRotated(CacheQuantizer):
    """A Hadamard matrix spreads outliers before the rounding; for values the way back is missing."""

    source: ClassVar[str] = "AQ05 ggml-org/llama.cpp#25382"

    stored_as: str = "int8"

    def rounded(self, kind: str, states: Tensor, ranges: Mapping[str, float]) -> Tensor:
        """Rotated, rounded, and rotated back if they are keys."""
        matrix = torch.ones(1, 1)
        while len(matrix) < states.shape[-1]:
            matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)]) / 2**0.5
        turned = super().rounded(kind, states @ matrix, ranges)
        return turned @ matrix.T if kind == "keys" else turned
