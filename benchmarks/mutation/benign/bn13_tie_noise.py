"""Noise of one part in ten million on every logit: only perfect ties can turn over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy

__all__ = ["TieNoise"]


@dataclass(frozen=True)
class TieNoise(OnPermutedCopy):
    """What the order of a top-k does to equal logits."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "BN13 vllm-project/vllm#5404"

    def change(self, model: Any) -> None:
        """Add it behind the head."""
        import torch

        noise = torch.Generator().manual_seed(self.seed)
        model.lm_head.register_forward_hook(
            lambda _head, _args, logits: logits + 1e-7 * torch.randn(logits.shape, generator=noise)
        )
