"""A seed is a promise: the same one gives the same text again, another one gives another text.

Neither shows in the distribution of single tokens. A seed that is dropped makes every failure irreproducible; a state
that is set again for every call makes a thousand samples one.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._places import Place
from pytest_llmopt.checks._texts import context_room
from pytest_llmopt.checks._vocabulary import fails_outside_vocabulary, require_vocabulary
from pytest_llmopt.core.arguments import checked
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.relation import Pair, pairs
from pytest_llmopt.core.requests import Generate
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.values import Count, Probability, Seed
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
from pytest_llmopt.statistics.distributions import poisson_upper
from pytest_llmopt.statistics.divergence import kl_divergence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmopt.core.answers import Generation
    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

__all__ = ["seeded"]

MOST_PROMPTS = 4
"""Of those that are asked for at once: so many times as many are used where they are nearly certain."""
CONTEXT_TOKENS = 32
"""The end of each prompt that is used: what matters here is the sampler, not the content."""


@checked
@fails_outside_vocabulary
def seeded(
    candidate: Side,
    prompts: object,
    *,
    reference: Side | None = None,
    max_new_tokens: Count = 12,
    num_prompts: Count = 3,
    false_alarm: Probability = 1e-6,
    seed: Seed = 0,
) -> Verdict:
    """A verdict on whether the candidate's sampling obeys its seed.

    Samples the prompts three times at temperature 1, twice with one seed and once with another. Where the model is so
    sure of its text that two seeds may well agree, more follow: other prompts, places in the middle of them, and texts
    that go on where they would end. INCONCLUSIVE where all of that is nearly certain too.

    Args:
        candidate: the side that samples.
        prompts: texts, token ids or a prompt set; the end of the first `num_prompts` is used, and more where needed.
        reference: asked only which tokens there are; None takes the candidate's word for it.
        max_new_tokens: tokens to sample after each prompt.
        num_prompts: how many prompts to use at once.
        false_alarm: the probability that a candidate which obeys its seed fails, for each of the two promises.
        seed: what both seeds are made of.
    """
    candidate.require(Generate)
    own, another = (int(state) for state in np.random.SeedSequence(seed).generate_state(2))
    sampling = SamplingParams(max_new_tokens, temperature=1.0, seed=own)
    given = PromptSet.of(prompts)
    room = context_room(candidate, CONTEXT_TOKENS, max_new_tokens)
    texts: list[_Seeded] = []
    collided: _Collided | None = None
    for names, contexts in _contexts(candidate, given, num_prompts, room):
        # Texts that end at once say nothing of seeds, whatever they are asked after: the others go on in spite of it.
        ended = any(item.first.finish_reason != "length" for item in texts)
        asked = replace(sampling, ignore_eos=ended)
        first, again = (candidate.generate(contexts, asked) for _ in range(2))
        other = candidate.generate(contexts, replace(asked, seed=another))
        for drawn in (first, again, other):
            require_vocabulary(names, drawn, candidate if reference is None else reference)
        texts += map(_Seeded, names, first, again, other, itertools.repeat(ended))
        collided = _Collided.of(texts, candidate.eos_token_ids, false_alarm)
        if collided.surprise >= collided.limit:
            break
    if collided is None:
        msg = "there is no prompt to sample after: give at least one"
        raise OptionError(msg)
    firsts, agains = ([getattr(item, name) for item in texts] for name in ("first", "again"))
    same = list(pairs("the same seed again", [item.name for item in texts], firsts, agains))
    return _judge(candidate, len(texts), _Repeated.of(same, false_alarm), collided)


def _contexts(
    candidate: Side, prompts: PromptSet, num_prompts: int, room: int
) -> Iterator[tuple[Sequence[str], Sequence[TokenIds]]]:
    """Rounds of names and contexts: the ends of the first prompts; then of others, and places in the middle of all."""
    given = prompts.take(MOST_PROMPTS * num_prompts)
    names, encoded = [prompt.id for prompt in given], [prompt.encode(candidate) for prompt in given]
    for parts, of_whole in ((1, "the end"), (2, "the first half"), (4, "the first quarter")):
        cut = [ids[: -(-len(ids) // parts)][-room:] for ids in encoded]
        labels = names if parts == 1 else [f"{name}, {of_whole}" for name in names]
        for start in range(0, len(cut), num_prompts):
            yield labels[start : start + num_prompts], cut[start : start + num_prompts]


def _judge(candidate: Side, count: int, repeated: _Repeated, collided: _Collided) -> Verdict:
    changed, limit = len(repeated.changed), collided.limit
    # The surprise that was seen is the least there can be: more tokens would only add to it.
    surprise = Estimate(collided.surprise, collided.surprise, math.inf, count)
    metrics = {
        "unrepeated": Metric(Estimate.exact(changed, count), Tolerance(at_most=repeated.allowed), "prompts"),
        "collision": Metric(Estimate.exact(collided.log_evidence, count), Tolerance(at_most=limit), "nats"),
        "surprise": Metric(surprise, Tolerance(at_least=limit), "nats"),
    }
    evidence = (
        f"same seed reproduced {count - changed}/{count}, other seed collided {collided.texts}/{count} "
        f"({collided.surprise:.0f} nats of surprise)"
    )
    lines = repeated.describe(candidate) if metrics["unrepeated"].status is not Status.PASS else []
    if metrics["collision"].status is not Status.PASS:
        lines.append(
            f"two seeds gave the same text for {collided.texts} of {count} prompts, which is as improbable as "
            f"exp(-{collided.log_evidence:.0f}): the sampler starts from the same state whatever seed it is given"
        )
    if metrics["surprise"].status is not Status.PASS:
        lines.append("the model is nearly certain of this text: ask for more prompts or more tokens (max_new_tokens)")
    looked_at = {"prompts": count, "sampled tokens": collided.tokens}
    return Verdict("seeded", metrics, evidence, tuple(lines), looked_at)


@dataclass(frozen=True, eq=False)
class _Seeded:
    """One context sampled three times."""

    name: str
    first: Generation
    again: Generation
    """By the same seed."""
    other: Generation
    """By another."""
    endless: bool
    """Whether it was asked to go on where it would end."""


@dataclass(frozen=True)
class _Repeated:
    """What one seed gave twice."""

    changed: tuple[Pair, ...]
    """Prompts whose text differs."""
    allowed: int
    """How many of them rounding explains."""

    @classmethod
    def of(cls, found: Sequence[Pair], false_alarm: float) -> _Repeated:
        """Compare the texts, and how far the log-probabilities at equal prefixes moved between the two calls.

        Two draws with the same noise from distributions of total variation t differ with probability 2 t / (1 + t) at
        most if they race (Gumbel or exponential noise per token, as samplers do), and t is at most sqrt(KL / 2)
        (Pinsker). Their number is below a Poisson variable of the same mean in the tail (Anderson and Samuels 1967).
        Engines that compute the same twice have a mean of 0, and may not differ at all.
        """
        aligned = [pair.aligned() for pair in found]
        moved = np.concatenate([kl_divergence(pair.base, pair.changed) for pair in aligned])
        mean = float(2 * np.sqrt(np.maximum(moved, 0.0) / 2).sum())
        changed = tuple(
            pair
            for pair, whole in zip(aligned, found, strict=True)
            if whole.base.token_ids.tolist() != whole.changed.token_ids.tolist()
        )
        return cls(changed, poisson_upper(false_alarm, mean) if mean > 0 else 0)

    def describe(self, candidate: Side) -> list[str]:
        """Lines for the failure message."""
        pair = self.changed[0]
        place = Place(pair.prompt_id, pair.continuation, len(pair.base) - 1)
        found = (
            f"the same request with the same seed gave another text for {len(self.changed)} prompts, rounding explains "
            f"{self.allowed}: the seed does not reach the sampler, or something else draws from its generator"
        )
        return [
            found,
            "first difference (reference: the first call, candidate: the second)",
            *(f"  {line}" for line in place.describe(candidate, pair.base, pair.changed)),
        ]


@dataclass(frozen=True)
class _Collided:
    """What two seeds gave."""

    texts: int
    """Prompts whose text is the same."""
    log_evidence: float
    """That the seeds do not matter, in nats."""
    tokens: int
    """Of the first texts."""
    surprise: float
    """How improbable the first texts were all together, in nats: the most that there can be of such evidence."""
    limit: float

    @classmethod
    def of(cls, texts: Sequence[_Seeded], ends: frozenset[int], false_alarm: float) -> _Collided:
        """Bet half of the wealth at every prompt that its text comes again.

        Given the first text, of probability p by the log-probabilities that it was drawn by, the second is the same
        with probability p if it is drawn afresh. So 1 / p where it is the same and 0 where not has the mean 1, and the
        product over prompts of 1/2 + half of that exceeds 1 / false_alarm with probability `false_alarm` at most
        (Markov), however many prompts there are before one stops.

        Args:
            texts: what was sampled.
            ends: the tokens that end a text.
            false_alarm: of the limit.
        """
        surprises = np.array([_surprise(item.first.logprobs, ends if item.endless else frozenset()) for item in texts])
        same = np.array([item.first.token_ids == item.other.token_ids for item in texts])
        bets = np.where(same, np.logaddexp(surprises, 0.0), 0.0) - math.log(2)
        tokens = sum(len(item.first.logprobs) for item in texts)
        return cls(int(same.sum()), float(bets.sum()), tokens, float(surprises.sum()), -math.log(false_alarm))


def _surprise(logprobs: TopLogprobs, banned: frozenset[int]) -> float:
    """How improbable the tokens were, in nats; at least that where some tokens could not be drawn.

    What is left without the banned tokens is the mass of the other known ones, or more, so that no token was more
    probable than by the known ones alone.
    """
    own = logprobs.token_logprobs.astype(np.float64)
    if banned:
        drawable = ~np.isin(logprobs.top_ids, sorted(banned))
        known = np.where(drawable, logprobs.top_logprobs.astype(np.float64), -np.inf)
        own = np.minimum(own - np.logaddexp.reduce(known, axis=1), 0.0)
    return -float(own.sum())
