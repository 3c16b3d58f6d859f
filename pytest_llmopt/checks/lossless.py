"""The same distribution by other means: sampled speculation, and any other sampling of the same model.

Sampled text cannot be compared, but the distribution that each token should have been drawn from is known exactly: the
reference scores the very tokens that the candidate emitted. So the tokens are tested against it, by bets that no
lossless sampler can win.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._limits import known_dtype
from pytest_llmopt.checks._not_judged import Tail, unseen_tail
from pytest_llmopt.checks._sampling.causes import explain, explain_slow
from pytest_llmopt.checks._sampling.draft import open_draft, unopened_draft
from pytest_llmopt.checks._sampling.sample import ROUNDING_KL, DrawnSample, Rates
from pytest_llmopt.checks._sampling.telling_places import Telling
from pytest_llmopt.checks._sequential import Design, Look
from pytest_llmopt.checks._vocabulary import fails_outside_vocabulary
from pytest_llmopt.core.arguments import checked
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.requests import Generate, Score
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.values import Count, CountOrNone, NonNegative, Probability, Seed, Share
from pytest_llmopt.core.varied import SIXTEEN_BITS
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
from pytest_llmopt.statistics.divergence import kl_divergence
from pytest_llmopt.statistics.warping import IncompleteEvidenceError, warp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.checks._sampling.sample import SamplingFindings
    from pytest_llmopt.core.prompt import Prompt
    from pytest_llmopt.core.side import Side

__all__ = ["lossless"]

FIRST_PROMPTS = 4
"""Sampled in the first round; every later round doubles what there is."""

SUSPICIOUS = 1 / 3
"""Of the alarm's evidence, beyond which the question is open: lossless sampling ends there with a probability of
`false_alarm ** SUSPICIOUS` at most, 5 % by default."""
LONGER = 4
"""How many times `max_tokens` are sampled then."""

LARGEST_REPORTED_KL = 1e-4
"""Mean KL divergence of the logits that a candidate reports, beyond which they are not the ones it should draw from."""

TIE_MARGINS = {"float64": 0.002, "float32": 0.002, "float16": 0.05, "bfloat16": 0.10}
"""How close to a filter's boundary either side may be right, in nats, by dtype."""


@checked
@fails_outside_vocabulary
def lossless(
    candidate: Side,
    reference: Side,
    prompts: object,
    *,
    temperature: NonNegative = 0.7,
    top_k: CountOrNone = 0,
    top_p: Share = 1.0,
    min_p: Share = 0.0,
    max_new_tokens: Count = 64,
    num_prompts: Count = 32,
    max_tokens: Count = 2048,
    false_alarm: Probability = 1e-4,
    floor_kl: NonNegative | None = None,
    tie_margin: NonNegative | None = None,
    seed: Seed = 0,
) -> Verdict:
    """A verdict on whether the candidate samples from the reference's distribution.

    Samples in rounds, each as large as all before it, until the evidence suffices for an alarm or there are
    `max_tokens`. A quarter of the tokens are the first ones after the places of the prompts where temperature and
    filters make the most difference. Where the evidence is a third of an alarm's by then, up to four times as many
    follow. Stopping early costs nothing: the false-alarm rate holds for any number of looks.

    Args:
        candidate: the side that samples.
        reference: the side that says what should be sampled from.
        prompts: texts, token ids or a prompt set; the first `num_prompts` are used, over and over with fresh seeds.
        temperature: of the sampling; above 0.
        top_k: how many tokens may be drawn; 0 for all.
        top_p: the mass of the tokens that may be drawn; 1 for all.
        min_p: the least probability that may be drawn, as a share of the largest; 0 for none.
        max_new_tokens: tokens to sample after each prompt.
        num_prompts: how many different prompts to use.
        max_tokens: how many tokens are enough to pass where nothing is suspicious.
        false_alarm: the probability that a lossless candidate ever fails.
        floor_kl: mean KL divergence of the warped distributions, in nats per token, that rounding alone explains; None
            takes 0 in float32 and float64 and 2e-4 over the squared temperature (at most 1) in 16 bits.
        tie_margin: how close to the edge of a filter a token may be to be tied, in nats; None takes 0.002 in float32
            and float64, 0.05 in float16 and 0.1 in bfloat16. Whether tied tokens come as often as they should is judged
            by the log-probabilities that the candidate acted on.
        seed: seed of the sampling.

    Raises:
        OptionError: the temperature is 0, where nothing is drawn, or a setting is out of range.
        UnsoundReferenceError: the reference is not finite somewhere; names the place.
    """
    candidate.require(Generate)
    reference.require(Score)
    sampling = SamplingParams(max_new_tokens, temperature, top_k, top_p, min_p)
    if sampling.greedy:
        msg = "temperature=0 draws nothing: both sides are greedy; give a temperature above 0, or use assert_equivalent"
        raise OptionError(msg)
    if floor_kl is None:
        floor_kl = ROUNDING_KL / min(1.0, temperature) ** 2 if candidate.dtype in SIXTEEN_BITS else 0.0
    if tie_margin is None:
        tie_margin = TIE_MARGINS[known_dtype(candidate)]
    chosen = PromptSet.of(prompts).take(num_prompts)
    sample = DrawnSample(
        candidate, reference, open_draft(candidate), Rates(false_alarm, floor_kl, tie_margin), sampling
    )
    rounds = Rounds.of(sample, chosen, max_tokens, seed)
    # The evidence holds at any number of looks, so one look's share of the error rate is all of it.
    found = Design(false_alarm).run(itertools.repeat(Look(rounds.take)), rounds.judge).found
    metrics = _metrics(sample, found)
    diagnosis = explain(sample, found, sampling) if found.alarm else ()
    diagnosis = (*diagnosis, *explain_slow(found)) if found.slow else diagnosis
    if metrics["logits_kl"].status is not Status.PASS:
        diagnosis = (
            *diagnosis,
            "the reported log-probabilities are not the reference's: processed, shifted or made up",
        )
    not_judged = {
        **unseen_tail([Tail.of(item.generation.logprobs) for item in sample.drawn]),
        **_filter_edges(sample),
        **unopened_draft(candidate, sample.draft),
    }
    return Verdict("lossless", metrics, _evidence(sample, found), diagnosis, _looked_at(sample, found), not_judged)


def _filter_edges(sample: DrawnSample) -> dict[str, str]:
    """Whether tokens tied at a filter's edge could be bet on: not where too little is known of the sampler's law."""
    try:
        warp(sample.drawn[0].acted_on, sample.sampling, tie_margin=sample.rates.tie_margin)
    except IncompleteEvidenceError as error:
        return {"filter edges": f"candidate: {error}"}
    return {}


@dataclass(frozen=True)
class SamplingOpinion:
    """The evidence so far, and whether it suffices."""

    found: SamplingFindings
    status: Status


@dataclass
class Rounds:
    """Long texts, each round as many as in all before it, and short ones where the filters matter most."""

    sample: DrawnSample
    prompts: PromptSet
    max_tokens: int
    seeds: Iterator[int]
    short: Telling
    queue: Iterator[Prompt]
    wanted: int = FIRST_PROMPTS
    long_texts: int = 0
    long_tokens: int = 0
    grew: bool = True

    @classmethod
    def of(cls, sample: DrawnSample, prompts: PromptSet, max_tokens: int, seed: int) -> Rounds:
        """Before the first round."""
        short = Telling.of(sample.reference, prompts, sample.sampling)
        # An engine adds the place of a prompt to the seed, so that rounds lie further apart than there are prompts.
        first = int(np.random.SeedSequence(seed).generate_state(1)[0])
        seeds = itertools.count(first, max(len(prompts), len(short)))
        return cls(sample, prompts, max_tokens, seeds, short, itertools.cycle(prompts))

    def take(self) -> None:
        """One round."""
        before = len(self.sample)
        for _ in range(-(-self.wanted // len(self.prompts))):
            size = min(self.wanted, len(self.prompts))
            self.sample.add(list(itertools.islice(self.queue, size)), next(self.seeds) % 2**32)
            self.wanted, self.long_texts = self.wanted - size, self.long_texts + size
        self.long_tokens += len(self.sample) - before
        for texts in self.short.due(self.long_tokens, len(self.sample) - self.long_tokens):
            self.sample.add(texts, next(self.seeds) % 2**32, self.short.max_new_tokens)
        self.grew = len(self.sample) > before  # every prompt emits a token

    def judge(self, _false_alarm: float) -> SamplingOpinion:
        """FAIL at an alarm, PASS at enough tokens without one. The sample knows the rate that its evidence is for."""
        found = self.sample.evidence()
        unsuspicious = found.peak <= SUSPICIOUS * found.tokens.threshold
        enough = self.max_tokens if unsuspicious else LONGER * self.max_tokens
        if found.alarm:
            return SamplingOpinion(found, Status.FAIL)
        if len(self.sample) >= enough or not self.grew:
            return SamplingOpinion(found, Status.PASS)
        per_text = len(self.sample) / self.long_texts
        left = round((enough - len(self.sample)) / per_text + 0.5)
        self.wanted = max(1, min(self.long_texts, left))
        return SamplingOpinion(found, Status.INCONCLUSIVE)


def _metrics(sample: DrawnSample, found: SamplingFindings) -> dict[str, Metric]:
    tokens, limit = len(sample), found.tokens.threshold
    divergences = [kl_divergence(item.scored, item.generation.logprobs) for item in sample.drawn]
    metrics = {
        "log_wealth": Metric(Estimate.exact(found.peak, tokens), Tolerance(at_most=limit), "nats"),
        "violations": Metric(Estimate.exact(found.tokens.violations, tokens), Tolerance(at_most=0), "tokens"),
        "edge_positions": Metric(Estimate.exact(found.edges.positions, tokens), unit="tokens"),
        "edge_tokens": Metric(Estimate.exact(found.edges.observed, found.edges.positions), unit="tokens"),
        "expected_edge_tokens": Metric(Estimate.exact(found.edges.expected, found.edges.positions), unit="tokens"),
        "edge_evidence": Metric(Estimate.exact(found.edges.peak, found.edges.positions), unit="nats"),
        "tokens": Metric(Estimate.exact(tokens, len(sample.drawn)), unit="tokens"),
        "logits_kl": Metric(
            Estimate.exact(float(np.concatenate(divergences).mean()), tokens),
            Tolerance(at_most=10 * ROUNDING_KL if sample.candidate.dtype in SIXTEEN_BITS else LARGEST_REPORTED_KL),
            "nats/token",
        ),
    }
    if found.tokens_to_alarm is not None:
        metrics["tokens_to_alarm"] = Metric(Estimate.exact(found.tokens_to_alarm, tokens), unit="tokens")
    drafted = sum(item.generation.drafted_tokens for item in sample.drawn)
    if found.acceptance is not None:
        metrics["acceptance_rate"] = Metric(found.acceptance.observed, unit="share")
        metrics["expected_acceptance"] = Metric(Estimate.exact(found.acceptance.expected, drafted), unit="share")
        metrics["acceptance_p_value"] = Metric(Estimate.exact(found.acceptance.p_value, drafted))
        metrics["excess_acceptance"] = Metric(Estimate.exact(found.excess, drafted), unit="nats")
        metrics["lost_acceptance"] = Metric(Estimate.exact(found.lost, drafted), unit="nats")
    elif drafted:
        accepted = sum(item.generation.accepted_tokens for item in sample.drawn)
        metrics["acceptance_rate"] = Metric(Estimate.exact(accepted / drafted, drafted), unit="share")
    return metrics


def _looked_at(sample: DrawnSample, found: SamplingFindings) -> dict[str, int]:
    texts = [item.generation.prompt_ids for item in sample.drawn]
    return {
        "different texts": len(set(texts)),
        "sampled texts": len(texts),
        "sampled tokens": len(sample),
        "tied positions": found.edges.positions,
        "proposals": sum(item.generation.drafted_tokens for item in sample.drawn),
        "deepest position": max(len(item.generation.continuation) for item in sample.drawn) - 1,
    }


def _evidence(sample: DrawnSample, found: SamplingFindings) -> str:
    line = f"{len(sample):,} tokens, log e-value {found.peak:.1f} (alarm above {found.tokens.threshold:.1f})"
    if found.tokens.violations:
        line += f", {found.tokens.violations} outside the support"
    if found.acceptance is not None:
        line += f", accepted {found.acceptance.observed.point:.0%} (expected {found.acceptance.expected:.0%}"
        line += ": slower than lossless verification has to be; reported, not judged)" if found.slow else ")"
    else:
        drafted = sum(item.generation.drafted_tokens for item in sample.drawn)
        accepted = sum(item.generation.accepted_tokens for item in sample.drawn)
        line += f", accepted {accepted / drafted:.0%}" if drafted else ""
    return line
