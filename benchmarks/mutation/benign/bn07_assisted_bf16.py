"""Assisted decoding in bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["AssistedBfloat16"]


@dataclass(frozen=True)
class AssistedBfloat16(OnPermutedCopy):
    """Ties go the other way, which is no bug."""

    category: ClassVar[str] = "speculative_greedy"
    source: ClassVar[str] = "BN07 vllm-project/vllm#41758"
    base: ClassVar = (("decoding.assisted", {}),)
    needs: ClassVar = ("sampling",)
    dtype: ClassVar[str] = "bfloat16"
