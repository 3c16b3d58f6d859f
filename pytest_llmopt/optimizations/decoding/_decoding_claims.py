"""What compiled and speculative decoding claim."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.answers import DecodeStep, Generation
    from pytest_llmopt.core.claims import Use
    from pytest_llmopt.core.logprobs import TopLogprobs

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""Of `torch.compile`."""
FEWEST_CHANCES = 16
TOO_LITTLE = "too little was drafted to tell: the texts end at once. Give longer prompts, or such whose texts go on"


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
    """Drafts were proposed; in texts that end at once there may be no room for one, which decides nothing."""
    tokens = sum(len(item.logprobs) for item in use.generations)
    drafted = use.drafted_tokens
    open_end = drafted == 0 and tokens < FEWEST_CHANCES
    return Claim(
        "drafted_tokens",
        Metric(_at_least(drafted, tokens, open_end=open_end), Tolerance(at_least=1), "tokens"),
        TOO_LITTLE if open_end else "no draft was ever proposed: every token took a target pass of its own",
    )


def accepted_claim(use: Use, due: int | None = None) -> Claim:
    """Drafts were accepted, where a sound one would have been.

    A sound draft agrees with the target at a quarter of the tokens at least: in 16 target passes one of its first
    proposals is accepted with a probability of 99 %. None in fewer passes decides nothing, unless the draft by itself
    agrees with what was emitted.

    Args:
        use: what was seen.
        due: the least that the draft's own first choices win there, in tokens; None where it cannot be asked.
    """
    # Where nothing was ever proposed every token was a chance.
    chances = sum(_chances(item) if use.drafted_tokens else len(item.logprobs) for item in use.generations)
    open_end = use.accepted_tokens == 0 and not due and chances < FEWEST_CHANCES
    return Claim(
        "accepted_tokens",
        Metric(
            _at_least(use.accepted_tokens, max(1, use.drafted_tokens), open_end=open_end),
            Tolerance(at_least=1),
            "tokens",
        ),
        TOO_LITTLE
        if open_end
        else f"none of {use.drafted_tokens} proposed tokens was accepted: the draft only costs time",
    )


def _at_least(count: int, n: int, *, open_end: bool) -> Estimate:
    return Estimate(count, count, math.inf, n) if open_end else Estimate.exact(count, n)


def _chances(generation: Generation) -> int:
    """Target passes that could accept a proposal: the token that ends a text is always the target's own."""
    examined = [step for step in generation.steps if step.drafted]
    return len(examined) - (bool(examined) and examined[-1] is generation.steps[-1])


def sampled_acceptance_claim(use: Use) -> list[Claim]:
    """Where tokens are sampled, as many proposals are accepted as draft and target share of their mass.

    Fewer are no loss of the distribution, and a loss of speed: verification is given other probabilities of the draft
    than those that it proposed by. Nothing is claimed where the draft model cannot be asked.
    """
    found = use.sampled
    if found is None:
        return []
    return [
        Claim(
            "lost_acceptance",
            Metric(Estimate.exact(found.lost, found.proposals), Tolerance(at_most=found.limit), "nats"),
            f"sampling accepted {found.observed:.1%} of {found.proposals:,} proposals where draft and target share "
            f"{found.expected:.1%} of their mass: slower than lossless verification has to be. Look at which "
            "probabilities of the draft the verification is given, and whether proposals were drawn from just these",
        )
    ]


def short_blocks_claim(use: Use, num_draft_tokens: int, confidence_threshold: float) -> list[Claim]:
    """No block won less than the draft model wins there; nothing is claimed where the draft itself cannot be asked.

    In greedy speculation that is a number, not an expectation: a proposal is accepted exactly where the draft's first
    choice is the token that was emitted. Each block is judged from where it really began, so that one bad block is one.

    Args:
        use: what was seen.
        num_draft_tokens: how many tokens a block proposes.
        confidence_threshold: the probability below which a proposal is the last of its block.
    """
    due = due_tokens(use, num_draft_tokens, confidence_threshold)
    if due is None:
        return []
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


def due_tokens(use: Use, num_draft_tokens: int, confidence_threshold: float) -> list[int] | None:
    """By target pass, the least that a sound draft wins there, in tokens; None where the draft cannot be asked."""
    if use.draft is None:
        return None
    return [
        count
        for item, draft in zip(use.generations, use.draft, strict=True)
        for count in _due(draft, item.steps, num_draft_tokens, confidence_threshold, use.tie_margin)
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
