"""What compiled and speculative decoding claim."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_llmopt.core.inspection import Claim
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.engine import DecodeStep
    from pytest_llmopt.core.inspection import Use
    from pytest_llmopt.core.logprobs import TopLogprobs


def compiled_claims(use: Use, *, prefill: bool = True) -> list[Claim]:
    """Graphs were compiled, none when everything was warm, and then every pass ran in one.

    Args:
        use: what was seen of the candidate.
        prefill: whether prefill is compiled too; otherwise each batch has one eager pass.
    """
    eager = use.work.eager_passes
    prefills = 0 if prefill else use.work.batches
    return [
        Claim(
            "graphs",
            Metric(Estimate.exact(use.compilations), Tolerance(at_least=1)),
            "nothing was compiled: every step ran eagerly",
        ),
        Claim(
            "recompilations",
            Metric(Estimate.exact(use.recompilations), Tolerance(at_most=0), "graphs when warm"),
            "an equal call after the first compiled again",
        ),
    ] + (
        []
        if eager is None
        else [
            Claim(
                "eager_passes",
                Metric(Estimate.exact(eager), Tolerance(at_most=prefills), "passes when warm"),
                "the interpreter ran every layer of these forward passes: no graph fits their shapes, or the compiler "
                "gave up at its limit of graphs (TORCH_LOGS=recompiles names the reason)",
            )
        ]
    )


def drafted_claim(use: Use) -> Claim:
    """Drafts were proposed."""
    tokens = sum(len(item.logprobs) for item in use.generations)
    return Claim(
        "drafted_tokens",
        Metric(Estimate.exact(use.drafted_tokens, tokens), Tolerance(at_least=1), "tokens"),
        "no draft was ever proposed: every token took a target pass of its own",
    )


def accepted_claim(use: Use) -> Claim:
    """Drafts were accepted."""
    return Claim(
        "accepted_tokens",
        Metric(Estimate.exact(use.accepted_tokens, max(1, use.drafted_tokens)), Tolerance(at_least=1), "tokens"),
        f"none of {use.drafted_tokens} proposed tokens was accepted: the draft only costs time",
    )


def short_blocks_claim(use: Use, num_draft_tokens: int, confidence_threshold: float) -> list[Claim]:
    """No block won less than the draft model wins there; nothing is claimed where the draft itself cannot be asked.

    In greedy speculation that is a number, not an expectation: a proposal is accepted exactly where the draft's first
    choice is the token that was emitted. Each block is judged from where it really began, so that one bad block is one.

    Args:
        use: what was seen.
        num_draft_tokens: how many tokens a block proposes.
        confidence_threshold: the probability below which a proposal is the last of its block.
    """
    if use.draft is None:
        return []
    due = [
        count
        for item, draft in zip(use.generations, use.draft, strict=True)
        for count in _due(draft, item.steps, num_draft_tokens, confidence_threshold, use.tie_margin)
    ]
    steps = [step for item in use.generations for step in item.steps]
    short = [(count, step) for count, step in zip(due, steps, strict=True) if step.accepted < count]
    fewer = sum(step.drafted < count for count, step in short)
    won = sum(step.accepted for _, step in short)
    return [
        Claim(
            "short_blocks",
            Metric(Estimate.exact(len(short), len(steps)), Tolerance(at_most=0), "target passes"),
            f"{len(short)} of {len(steps)} target passes accepted fewer proposals than the draft model's own first "
            f"choices win there: {won} instead of {sum(count for count, _ in short)}; {fewer} of them were given fewer "
            f"proposals than num_draft_tokens={num_draft_tokens} allows. The text is right, since the target verifies "
            "it, and slower than it has to be. Look at what the draft is given (its cache after a rejection, its mask, "
            "its positions) and at what ends a block",
        )
    ]


def _due(
    draft: TopLogprobs, steps: Sequence[DecodeStep], num_draft_tokens: int, threshold: float, tie_margin: float
) -> list[int]:
    """By target pass, the least that a sound draft wins there: ties count as lost, the last token is the target's."""
    counts, place, last = [], 0, len(draft) - 1
    for step in steps:
        count = 0
        while count < num_draft_tokens and place + count < last and _leads(draft, place + count, tie_margin):
            count += 1
            if math.exp(draft.token_logprobs[place + count - 1] - tie_margin) < threshold:
                break
        counts.append(count)
        place += step.emitted
    return counts


def _leads(draft: TopLogprobs, place: int, tie_margin: float) -> bool:
    """Whether the token that was emitted is the draft's first choice by more than rounding."""
    first, second = draft.top_logprobs[place, :2]
    return bool(draft.top_ids[place, 0] == draft.token_ids[place] and first - second > tie_margin)
