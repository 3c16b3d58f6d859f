"""The acceptance rule of block verification is used together with the residual of the token-wise rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import Verification

__all__ = ["BlockRule"]


@dataclass(frozen=True)
class BlockRule(Verification):
    """Blocks of two and more proposals are accepted a little too often; single proposals are right."""

    source: ClassVar[str] = "SP10 vllm-project/vllm-ascend#7807"

    def matches(self, chance: Any) -> int:
        """Up to the last place where the joint ratio of the block so far wins its draw."""
        import torch

        joint, ratio = [], torch.tensor(1.0)
        for own in chance:
            ratio = (ratio * own).clamp(max=1.0)
            joint.append(ratio)
        won = torch.rand_like(chance) <= torch.stack(joint)
        return int(won.nonzero().max()) + 1 if won.any() else 0
