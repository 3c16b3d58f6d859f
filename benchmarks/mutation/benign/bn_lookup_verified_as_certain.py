"""Looked-up drafts are verified by rejection sampling with a law that is certain of them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy
from _speculation import certain_lookup, while_generating

__all__ = ["LookupVerifiedAsCertain"]


@dataclass(frozen=True)
class LookupVerifiedAsCertain(OnPermutedCopy):
    """SP17 where it belongs: one-hot proposals are lossless."""

    category: ClassVar[str] = "speculative_sampled"
    source: ClassVar[str] = "SP17 vllm-project/vllm#40149 (one-hot proposals of an n-gram draft)"
    base: ClassVar = (("decoding.prompt_lookup", {}),)
    needs: ClassVar = ("sampling",)

    def change(self, model: Any) -> None:
        """Hand over that law with every draft."""
        super().change(model)
        while_generating(model, lambda kwargs: certain_lookup() if kwargs.get("do_sample") else nullcontext())
