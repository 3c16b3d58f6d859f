"""A request's seed is set again before each verification, so that every block meets the same draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import Verification

__all__ = ["SeedSetAgain"]


@dataclass(frozen=True)
class SeedSetAgain(Verification):
    """Which ratios are accepted never changes within a request."""

    source: ClassVar[str] = "SP reused random state (SL05 vllm-project/vllm#26859: the sampler's draws do not vary)"

    def matches(self, chance: Any) -> int:
        """From the same state as in the block before."""
        import torch

        torch.manual_seed(7)
        return super().matches(chance)
