"""One random number serves all rows of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from _sampling import DrawsByHand

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OneDrawForAllRows"]


@dataclass(frozen=True)
class OneDrawForAllRows(DrawsByHand):
    """Each row for itself is right; together they move in step."""

    source: ClassVar[str] = "SL05 vllm-project/vllm#26859 (a generator seeded alike in each row)"
    needs: ClassVar = ("sampling", "batch")

    def numbers(self, rows: int, _step: int) -> Tensor:
        """The same for each."""
        return torch.rand(1).expand(rows)
