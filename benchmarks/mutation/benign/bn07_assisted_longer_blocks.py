"""Assisted decoding with eight proposals in a block, past the window of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["LongerBlocks"]


@dataclass(frozen=True)
class LongerBlocks(OnPermutedCopy):
    """Other shapes again."""

    category: ClassVar[str] = "speculative_sampled"
    source: ClassVar[str] = "BN07 ggml-org/llama.cpp#28111"
    base: ClassVar = (("decoding.assisted", {"num_draft_tokens": 8}),)
    models: ClassVar = ("tiny-gemma",)
    needs: ClassVar = ("sampling", "window")
