"""Random numbers have eight bits: what is rarer than that never comes, or too often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from _sampling import DrawsByHand

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FewRandomBits"]


@dataclass(frozen=True)
class FewRandomBits(DrawsByHand):
    """A cast in the wrong place."""

    source: ClassVar[str] = "SL05 vllm-project/vllm#26859 (draws of low resolution)"
    needs: ClassVar = ("sampling",)

    def numbers(self, rows: int, _step: int) -> Tensor:
        """Multiples of 1/256."""
        return (torch.rand(rows) * 256).floor() / 256
