"""One model answers nothing right and another is fine: a 4-bit cache takes one scale for a whole prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantizer import CacheQuantizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["PrefillInOneShot"]


@dataclass(frozen=True)
class PrefillInOneShot(CacheQuantizer):
    """Large channels of some models' keys leave one or two codes to all others."""

    source: ClassVar[str] = "AQ07 huggingface/transformers#35185"
    needs: ClassVar[tuple[str, ...]] = ("large_keys",)

    stored_as: str = "int8"
    bits: int = 4

    def scale(self, kind: str, states: Tensor, ranges: Mapping[str, float]) -> Tensor:
        """The largest of everything that is written at once."""
        return super().scale(kind, states, ranges).amax()
