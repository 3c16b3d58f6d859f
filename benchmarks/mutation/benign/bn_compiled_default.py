"""The decode step compiled in the default mode, with static shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["CompiledDefault"]


@dataclass(frozen=True)
class CompiledDefault(OnPermutedCopy):
    """Fused operations round once where eager ones round twice."""

    category: ClassVar[str] = "graph_capture"
    source: ClassVar[str] = "BN08 pytorch/pytorch#183761"
    base: ClassVar = (
        ("decoding.static_cache", {"max_cache_len": 704, "compile": True, "mode": "default", "dynamic": False}),
    )
