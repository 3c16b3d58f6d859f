"""A draft model beside the target, handed to every `generate` call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier
from pytest_llmopt.core.errors import CombinationError
from pytest_llmopt.core.loading import locate
from pytest_llmopt.core.quoting import explained, quoted

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Load the draft once the target is there, and hand it to every `generate` call.

    Raises:
        RequirementMissingError: no draft is named and the model has none of its own.
        CombinationError: the draft has another vocabulary, or a head of another size.
    """
    draft = locate(options.name_of_draft(plan.model, plan.policy))
    _check_vocabulary(plan, draft)
    plan.draft = draft
    plan.max_batch = 1
    plan.speculative = True
    plan.extra_tokens = options.num_draft_tokens
    plan.after_load.append(lambda model: plan.generate.update(assistant_model=_load(options, plan, draft, model)))


def _load(options: Any, plan: LoadPlan, draft: str, target: Any) -> Any:
    model = plan.open(draft, dtype=target.dtype)
    _check_head(plan, draft, model, target)
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None:
        # A draft that is asked beyond its positions proposes noise, or reads behind the end of a table.
        plan.max_length = room if plan.max_length is None else min(plan.max_length, room)
    model.generation_config.num_assistant_tokens = options.num_draft_tokens
    model.generation_config.num_assistant_tokens_schedule = "constant"
    model.generation_config.assistant_confidence_threshold = options.confidence_threshold
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


applier = Applier(_apply)
