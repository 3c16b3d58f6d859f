"""Assisted decoding: a small draft model proposes tokens, the target verifies them in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pytest_llmopt.core.errors import RequirementMissingError
from pytest_llmopt.core.loading import locate
from pytest_llmopt.core.model_files import check_model
from pytest_llmopt.core.optimization import Optimization, Promise
from pytest_llmopt.core.sources import place_of
from pytest_llmopt.core.values import Count, Range
from pytest_llmopt.optimizations.decoding._decoding_claims import (
    accepted_claim,
    drafted_claim,
    due_tokens,
    sampled_acceptance_claim,
    short_blocks_claim,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.claims import Claim, Use
    from pytest_llmopt.core.loading import LoadPolicy

__all__ = ["Assisted"]


@dataclass(frozen=True)
class Assisted(Optimization):
    """Speculative decoding with a draft model that shares the target's vocabulary."""

    promise: ClassVar[Promise] = Promise.LOSSLESS

    draft: str | None = None
    """Folder or hub id of the draft (`{model}` in it is the model under test); None takes `--llmopt-draft`, or the zoo
    model's own draft."""
    num_draft_tokens: Count = 5
    confidence_threshold: Annotated[float, Range(0, below=1)] = 0.0
    """Stop drafting when the draft's own probability falls below it; 0 always drafts the full number."""

    @property
    def conflicts(self) -> Mapping[str, str]:
        """One kind of speculation at a time."""
        return {"decoding.prompt_lookup": "a step takes its drafts from one source"}

    def claims(self, use: Use) -> Sequence[Claim]:
        """The draft was consulted, some of what it proposed was accepted, and as much as the draft is worth."""
        settings = self.num_draft_tokens, self.confidence_threshold
        due = due_tokens(use, *settings)
        accepted = accepted_claim(use, None if due is None else sum(due))
        return [drafted_claim(use), accepted, *short_blocks_claim(use, *settings), *sampled_acceptance_claim(use)]

    def precheck(self, model: str, policy: LoadPolicy) -> None:
        """Refuse a draft that is not there, or whose folder is broken.

        Raises:
            ModelError: says what is wrong with it.
            RequirementMissingError: no draft is named and the model has none of its own.
        """
        draft = self.name_of_draft(locate(model), policy)
        folder = place_of(draft, policy, "draft")
        if folder is not None:
            check_model(folder, draft, policy, "draft")

    def name_of_draft(self, model: str, policy: LoadPolicy) -> str:
        """Folder or hub id of the draft of a model.

        Raises:
            RequirementMissingError: none is named, and the model has none of its own.
        """
        own = f"{model.rstrip('/')}-draft"
        named = self.draft or policy.draft or (own if Path(own).is_dir() else None)
        if named is None:
            msg = f"needs a draft model for {model}: assisted(draft=...) or --llmopt-draft FOLDER_OR_ID"
            msg_0 = "draft"
            raise RequirementMissingError(msg_0, msg)
        return named
