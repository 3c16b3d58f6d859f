"""The probability of a proposal is zeroed in place, so that later rows of the block are without it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from _speculation import Verification, certain_lookup

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["EarlierProposalsZeroed"]


@dataclass(frozen=True)
class EarlierProposalsZeroed(Verification):
    """Drafts without a law of their own (n-gram) are rejected too often, and what replaces them is distorted."""

    source: ClassVar[str] = "SP08 vllm-project/vllm-ascend#2881"
    base: ClassVar = (("decoding.prompt_lookup", {}),)

    def contexts(self, _model: Any, _kwargs: dict[str, Any]) -> list[AbstractContextManager[Any]]:
        """Verify looked-up drafts by rejection sampling, as the engine in question does."""
        return [certain_lookup()]

    def chance(self, p: Any, q: Any, proposals: Any) -> Any:
        """From a buffer that the rows share."""
        own = super().chance(p, q, proposals)
        for row in range(1, len(p)):
            p[row, proposals[:row]] = 0.0
        return own.minimum(super().chance(p, q, proposals))
