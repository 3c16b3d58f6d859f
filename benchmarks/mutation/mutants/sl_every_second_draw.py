"""A random number is used in two steps, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from _sampling import DrawsByHand

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EverySecondDraw"]


@dataclass(frozen=True)
class EverySecondDraw(DrawsByHand):
    """A buffer of draws that advances every second time."""

    source: ClassVar[str] = "SL05 vllm-project/vllm#26859 (offset of the generator not advanced)"
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("sampling",)

    def numbers(self, rows: int, step: int) -> Tensor:
        """From the same state as the step before, every second time."""
        if step % 2 == 0 or len(self.held) != rows:
            self.held[:] = torch.rand(rows).tolist()
        return torch.tensor(self.held)
