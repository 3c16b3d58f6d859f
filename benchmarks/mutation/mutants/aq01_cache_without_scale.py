"""Nothing but special tokens: a fast path for float8 queries hands out keys and values that are not scaled back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import CacheQuantizer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CacheWithoutScale"]


@dataclass(frozen=True)
class CacheWithoutScale(CacheQuantizer):
    """The codes are used as keys and values."""

    source: ClassVar[str] = "AQ01 vllm-project/vllm#42580"

    def read(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Forget the scale."""
        return codes.to(scale.dtype)
