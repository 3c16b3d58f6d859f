"""Looked-up drafts of two tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from _benign import OnPermutedCopy

__all__ = ["LookupOfTwo"]


@dataclass(frozen=True)
class LookupOfTwo(OnPermutedCopy):
    """Nothing about the text may change."""

    category: ClassVar[str] = "speculative_greedy"
    source: ClassVar[str] = "BN07 huggingface/transformers#30413"
    base: ClassVar = (("decoding.prompt_lookup", {"num_draft_tokens": 2}),)
