"""Drafts looked up in the text so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Ask every `generate` call for it."""
    plan.max_batch = 1
    plan.speculative = True
    plan.extra_tokens = options.num_draft_tokens
    plan.set("generate", "prompt_lookup_num_tokens", options.num_draft_tokens, by="prompt_lookup")
    plan.set("generate", "max_matching_ngram_size", options.max_ngram, by="prompt_lookup")


applier = Applier(_apply)
