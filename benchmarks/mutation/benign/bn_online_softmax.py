"""Attention in blocks of keys with an online softmax, the last block first, as flash kernels do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from _attention import allowed, replace_kernel
from _benign import OnPermutedCopy

__all__ = ["OnlineSoftmax"]


@dataclass(frozen=True)
class OnlineSoftmax(OnPermutedCopy):
    """Another order of sums at every depth."""

    source: ClassVar[str] = "BN09 pytorch/pytorch#103462 (flash kernels differ from math)"
    models: ClassVar = ("tiny-llama", "tiny-qwen")

    def change(self, model: Any) -> None:
        """Blocks of 16 to 47 keys."""
        size = 16 + self.seed % 32

        def blocks(_own: Any, _module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            groups = query.shape[1] // key.shape[1]
            key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
            seen = allowed(query, key, mask)
            scaling = options.get("scaling") or query.shape[-1] ** -0.5
            top = query.new_full((*query.shape[:3], 1), torch.finfo(query.dtype).min / 2)
            total, summed = torch.zeros_like(top), torch.zeros_like(query)
            for start in reversed(range(0, key.shape[2], size)):
                part = slice(start, start + size)
                scores = (query @ key[:, :, part].mT * scaling).masked_fill(~seen[..., part], -float("inf"))
                new = torch.maximum(top, scores.amax(-1, keepdim=True))
                weights, shrink = (scores - new).exp(), (top - new).exp()
                total, summed = (
                    total * shrink + weights.sum(-1, keepdim=True),
                    summed * shrink + weights @ value[:, :, part],
                )
                top = new
            return (summed / total.clamp(min=1e-30)).transpose(1, 2).contiguous(), None

        replace_kernel(model, blocks)
