"""Assisted decoding as it is shipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["RightAssisted"]


@dataclass(frozen=True)
class RightAssisted(OnPermutedCopy):
    """Verification has other shapes than decoding has."""

    category: ClassVar[str] = "speculative_greedy"
    source: ClassVar[str] = "BN07 vllm-project/vllm#7627"
    base: ClassVar = (("decoding.assisted", {}),)
    needs: ClassVar = ("sampling",)
