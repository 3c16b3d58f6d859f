"""Text that both sides of an accuracy check have scored, by prompt and by the candidate's path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pytest_llmopt.checks._not_judged import Tail
from pytest_llmopt.checks._reference import require_finite_reference
from pytest_llmopt.checks._vocabulary import require_vocabulary
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.prompt import require_room
from pytest_llmopt.core.requests import Score
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.core.verdict import Estimate
from pytest_llmopt.statistics.agreement import top1_agreement, top1_lead
from pytest_llmopt.statistics.divergence import kl_divergence, logprob_difference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_llmopt.core.logprobs import BoolArray, FloatArray
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

FLIP_MARGIN = 0.5
"""A changed first choice counts as a flip where the reference's lead was at least this, in nats; else it is a tie."""
KEPT = 8
"""Favorites kept of each position, to be shown; a thousand prompts with all that was known would not fit."""

Value = TypeVar("Value", "FloatArray", "BoolArray")


@dataclass(frozen=True, eq=False)
class ScoredText:
    """Some tokens of one prompt with what both sides thought of them."""

    prompt_id: str
    text: TokenIds
    """The tokens of the prompt: what is scored of equal prompts is one cluster."""
    continuation: Continuation
    reference: TopLogprobs
    """The favorites of the reference."""
    candidate: TopLogprobs
    decoded: bool
    """Whether the candidate's values come from its decode path."""
    kl: FloatArray
    """KL(reference || candidate) in nats: `[tokens]`."""
    agrees: BoolArray
    """Whether both sides prefer the same token: `[tokens]`."""
    flips: BoolArray
    """Whether the first choice changed, where the reference's lead exceeds `FLIP_MARGIN`: `[decided tokens]`."""
    difference: FloatArray
    """The candidate's minus the reference's log-probability of the token that was there, in nats: `[tokens]`."""
    nonfinite: int
    """Positions where the candidate has no usable distribution."""
    tail: Tail
    """What the candidate's log-probabilities leave out."""
    reference_tail: Tail
    """What the reference's leave out."""
    tokens_per_s: float | None = None
    """Of its prompt, in the batch that it was decoded in; None where it was not decoded, or in one step."""

    @classmethod
    def of(
        cls, prompt_id: str, text: TokenIds, continuation: Continuation, sides: tuple[TopLogprobs, TopLogprobs]
    ) -> ScoredText:
        """Compare the reference's view and the candidate's once; what is not shown or judged is not kept."""
        reference, candidate = sides
        agrees = top1_agreement(reference, candidate)
        return cls(
            prompt_id,
            text,
            continuation,
            _favorites(reference),
            _favorites(candidate),
            decoded=False,
            kl=kl_divergence(reference, candidate),
            agrees=agrees,
            flips=~agrees[top1_lead(reference) > FLIP_MARGIN],
            difference=logprob_difference(reference, candidate),
            nonfinite=int((~candidate.is_finite).sum()),
            tail=Tail.of(candidate),
            reference_tail=Tail.of(reference),
        )


def score(
    candidate: Side, reference: Side, prompts: Sequence[tuple[str, TokenIds]], sampling: SamplingParams
) -> list[ScoredText]:
    """The prompts' own text, scored by both sides without a cache, and what the candidate samples after it.

    Only the latter where the candidate cannot score.

    Raises:
        UnsoundReferenceError: the reference's log-probabilities of some token are not finite.
    """
    scorable = [prompt for prompt in prompts if len(prompt[1]) > 1] if candidate.can(Score) else []
    texts = [(name, tokens, Continuation(tokens[:1], tokens[1:])) for name, tokens in scorable]
    require_room(prompts, sampling.max_new_tokens, candidate, reference)
    generations = candidate.generate([tokens for _, tokens in prompts], sampling)
    require_vocabulary([name for name, _ in prompts], generations, reference)
    decoded = [(*prompt, item.continuation) for prompt, item in zip(prompts, generations, strict=True)]
    everything = texts + decoded
    theirs = reference.score([item for _, _, item in everything])
    for (name, _, continuation), logprobs in zip(everything, theirs, strict=True):
        require_finite_reference([name], [continuation], [logprobs])
    read = candidate.score([item for _, _, item in texts]) if texts else []
    own = [*read, *(item.logprobs for item in generations)]
    found = [ScoredText.of(*item, sides) for item, sides in zip(everything, zip(theirs, own, strict=True), strict=True)]
    rates = [
        item.timing.decode_tokens / item.timing.decode_s
        if item.timing.decode_tokens > 0 and item.timing.decode_s > 0
        else None
        for item in generations
    ]
    sampled = found[len(texts) :]
    return found[: len(texts)] + [
        replace(item, decoded=True, tokens_per_s=rate) for item, rate in zip(sampled, rates, strict=True)
    ]


def by_text(scored: Sequence[ScoredText], values: Callable[[ScoredText], Value]) -> list[Value]:
    """The values of each different text's positions, prefill and decode together: one cluster per text."""
    groups: dict[TokenIds, list[Value]] = {}
    for item in scored:
        groups.setdefault(item.text, []).append(values(item))
    return [np.concatenate(group) for group in groups.values()]


def worst_prompt(scored: Sequence[ScoredText], fewest_positions: int) -> tuple[Estimate, ScoredText | None]:
    """The largest mean KL of one prompt on one path, in nats per token, and where it was; NaN counts as largest.

    What was scored is what is judged, so there is no interval. A mean over fewer than `fewest_positions` tokens is no
    mean of a prompt; where no prompt has as many, the estimate is open above.
    """
    long_enough = [item for item in scored if len(item.kl) >= fewest_positions]
    if not long_enough:
        return Estimate(0.0, 0.0, np.inf, 0), None
    means = [float(item.kl.mean()) for item in long_enough]
    place = int(np.argmax(np.where(np.isnan(means), np.inf, means)))
    return Estimate.exact(means[place], len({item.text for item in long_enough})), long_enough[place]


def _favorites(logprobs: TopLogprobs) -> TopLogprobs:
    ids, values = logprobs.top_ids[:, :KEPT].copy(), logprobs.top_logprobs[:, :KEPT].copy()
    return TopLogprobs(logprobs.token_ids, logprobs.token_logprobs, ids, values, logprobs.vocab_size)
