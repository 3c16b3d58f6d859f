"""Prompt lookup: drafts are copied from where the last n-gram occurred before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pytest_llmopt.core.optimization import Optimization, Promise
from pytest_llmopt.core.values import Count
from pytest_llmopt.optimizations.decoding._decoding_claims import drafted_claim

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.claims import Claim, Use

__all__ = ["PromptLookup"]


@dataclass(frozen=True)
class PromptLookup(Optimization):
    """Speculative decoding without a draft model."""

    promise: ClassVar[Promise] = Promise.LOSSLESS

    num_draft_tokens: Count = 3
    max_ngram: Count = 2
    """The longest n-gram that is looked up."""

    @property
    def conflicts(self) -> Mapping[str, str]:
        """One kind of speculation at a time."""
        return {"decoding.assisted": "a step takes its drafts from one source"}

    def claims(self, use: Use) -> Sequence[Claim]:
        """Drafts were proposed; whether the text repeats itself is not for it to promise."""
        return [drafted_claim(use)]
