"""Assisted decoding: a small draft model proposes tokens, the target verifies them in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pytest_llmopt.core.errors import CombinationError, RequirementMissingError
from pytest_llmopt.core.loading import locate
from pytest_llmopt.core.model_files import check_model
from pytest_llmopt.core.optimization import LoadPlan, Optimization, Promise
from pytest_llmopt.core.quoting import explained, quoted
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

    def for_transformers(self, plan: LoadPlan) -> None:
        """Load the draft once the target is there, and hand it to every `generate` call.

        Raises:
            RequirementMissingError: no draft is named and the model has none of its own.
            CombinationError: the draft has another vocabulary, or a head of another size.
        """
        draft = locate(self._name_of_draft(plan.model, plan.policy))
        _check_vocabulary(plan, draft)
        plan.draft = draft
        plan.max_batch = 1
        plan.speculative = True
        plan.extra_tokens = self.num_draft_tokens
        plan.after_load.append(lambda model: plan.generate.update(assistant_model=self._load(plan, draft, model)))

    def precheck(self, model: str, policy: LoadPolicy) -> None:
        """Refuse a draft that is not there, or whose folder is broken.

        Raises:
            ModelError: says what is wrong with it.
            RequirementMissingError: no draft is named and the model has none of its own.
        """
        draft = self._name_of_draft(locate(model), policy)
        folder = place_of(draft, policy, "draft")
        if folder is not None:
            check_model(folder, draft, policy, "draft")

    def _name_of_draft(self, model: str, policy: LoadPolicy) -> str:
        own = f"{model.rstrip('/')}-draft"
        named = self.draft or policy.draft or (own if Path(own).is_dir() else None)
        if named is None:
            msg = f"needs a draft model for {model}: assisted(draft=...) or --llmopt-draft FOLDER_OR_ID"
            msg_0 = "draft"
            raise RequirementMissingError(msg_0, msg)
        return named

    def _load(self, plan: LoadPlan, draft: str, target: Any) -> Any:
        model = plan.open(draft, dtype=target.dtype)
        _check_head(plan, draft, model, target)
        room = getattr(model.config, "max_position_embeddings", None)
        if room is not None:
            # A draft that is asked beyond its positions proposes noise, or reads behind the end of a table.
            plan.max_length = room if plan.max_length is None else min(plan.max_length, room)
        model.generation_config.num_assistant_tokens = self.num_draft_tokens
        model.generation_config.num_assistant_tokens_schedule = "constant"
        model.generation_config.assistant_confidence_threshold = self.confidence_threshold
        return model


def _check_head(plan: LoadPlan, draft: str, model: Any, target: Any) -> None:
    """Refuse another number of logits: what is verified are ids and probabilities, one by one."""
    own, wanted = (int(each.config.get_text_config(decoder=True).vocab_size) for each in (model, target))
    if own != wanted:
        msg = (
            f"the draft {draft} gives {own} logits and the model {plan.model} {wanted}: their tokenizers agree, so one "
            "of the heads is padded. Transformers verifies drafts of equal heads only: resize one with "
            "resize_token_embeddings, or take another draft"
        )
        raise CombinationError(msg)


def _check_vocabulary(plan: LoadPlan, draft: str) -> None:
    from transformers import AutoTokenizer

    source = {"local_files_only": not plan.policy.download, "trust_remote_code": plan.policy.trust_remote_code}
    with explained(f"the tokenizer of the model {quoted(plan.model)} cannot be loaded", "copy the one of its training"):
        target_vocabulary = AutoTokenizer.from_pretrained(plan.model, **source).get_vocab()
    with explained(f"the tokenizer of the draft {quoted(draft)} cannot be loaded", "copy the one of the target"):
        draft_vocabulary = AutoTokenizer.from_pretrained(draft, **source).get_vocab()
    if target_vocabulary != draft_vocabulary:
        differ = len(target_vocabulary.items() ^ draft_vocabulary.items())
        msg = (
            f"the draft {draft} has another vocabulary ({len(draft_vocabulary)} tokens) than the model {plan.model} "
            f"({len(target_vocabulary)} tokens): {differ} entries differ; drafts must share the target's tokenizer"
        )
        raise CombinationError(msg)
