"""Why sampled tokens do not follow the target: the statistic, the stratum, the likeliest fault, the worst place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_llmopt.checks._places import worst_place
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.statistics.eprocess import sampling_evidence
from pytest_llmopt.statistics.sampling_laws import likeliest_laws
from pytest_llmopt.statistics.sampling_numbers import NUMBER_STATISTICS
from pytest_llmopt.statistics.warping import IncompleteEvidenceError, warp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.checks._sampling.sample import DrawnSample, SamplingFindings
    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.core.sampling import SamplingParams

MEANINGS = {
    "log_p": "tokens are more or less probable than they should be",
    "top1": "the most probable token comes too often or too seldom",
    "rank_pit": "mass is moved along the ranking of the tokens",
    "pit_lag1": "each token depends on the chance of the one before: a random state is used again",
    "drawn_before": "tokens come again too often or too seldom: random numbers per token id are used again",
    "last_kept": "the last token that a filter keeps comes too seldom or too often: it keeps one fewer or one more",
    "number_before": "each token depends on the chance of the one before: a random number is used in two steps",
    "number_before_sorted": "each token depends on the chance of the one before: a random number is used in two steps",
    "number_beside": "the rows of a batch move in step: one random number serves several rows",
    "number_beside_sorted": "the rows of a batch move in step: one random number serves several rows",
    "drawn_beside": "the rows of a batch draw the same tokens: random numbers per token id serve several rows",
    "coarse_number": "rare tokens come never or too often: random numbers have about 8 bits",
    "coarse_number_sorted": "rare tokens come never or too often: random numbers have about 8 bits",
    "coarse_half_number": "rare tokens come never or too often: random numbers have about 11 bits",
    "draft_ratio": "tokens lean towards the draft or away from it",
    "accept_probability": "tokens that the draft deems too likely come too often or too seldom",
    "draft_top1": "the draft's most probable token comes too often or too seldom",
}
TELLING = frozenset({"pit_lag1", "drawn_before", "last_kept", *NUMBER_STATISTICS})
"""Statistics that name a cause by themselves, which no law of a single token explains better."""
EDGES = "tokens that tie at a filter's edge are not drawn as they should be: the filter drops or favors some of them"
FILTERS: Mapping[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
CONVINCING = 5.0
"""Nats by which a fault must explain the tokens better than lossless sampling, to be named."""


def explain(sample: DrawnSample, found: SamplingFindings, sampling: SamplingParams) -> tuple[str, ...]:
    """Lines for the failure message."""
    statistic = max(found.tokens.by_statistic, key=lambda name: found.tokens.by_statistic[name])
    lines = [
        f"alarm after {found.tokens_to_alarm:,} of {len(sample):,} tokens (false alarms: {sample.rates.false_alarm:g})",
        f"most evidence  {statistic} {found.tokens.by_statistic[statistic]:.1f} nats: {MEANINGS[statistic]}",
        "by stratum     " + ", ".join(f"{name} {value:.1f}" for name, value in _highest(found.tokens.by_stratum)),
    ]
    if found.edges.peak > found.tokens.threshold:
        lines.append(
            f"filter edges   {found.edges.peak:.1f} nats: of {found.edges.positions} positions with tokens tied at a "
            f"filter's edge such a token came {found.edges.observed} times, expected {found.edges.expected:.1f}; "
            f"{found.edges.outside} of them lie outside the candidate's own support. Look at how the filter treats "
            "tokens that equal the last one it keeps"
        )
    if found.excess > found.tokens.threshold:
        lines.append(f"acceptance     {found.excess:.1f} nats: more proposals accepted than any lossless rule could")
    outside = found.tokens.violations > 0
    causes, gains = _causes(sample, found, sampling)
    if outside:
        causes = _support(sample, sampling) + causes
        gains = np.concatenate([item.target.violations for item in sample.drawn]).astype(np.float64)
    elif found.edges.peak > found.tokens.threshold >= found.tokens.peak:
        causes = [EDGES]
    elif statistic in TELLING and found.tokens.by_statistic[statistic] > CONVINCING:
        causes = [MEANINGS[statistic]]
    lines += [f"cause          {cause}" for cause in causes or ["none of the known faults explains the tokens"]]
    lines.append("worst place    " + ("a token outside the support" if outside else "where that cause explains most"))
    return (*lines, *_worst(sample, gains))


def explain_slow(found: SamplingFindings) -> tuple[str, ...]:
    """Lines where proposals are accepted less often than they have to be: reported, as no token is wrong by that."""
    if found.acceptance is None:
        return ()
    observed, expected = found.acceptance.observed, found.acceptance.expected
    what = "" if found.alarm else "the tokens follow the reference, but "
    return (
        (
            f"{what}{observed.point:.1%} of {observed.n:,} proposals were accepted where draft and target share "
            f"{expected:.1%} of their mass: slower than lossless verification has to be ({found.lost:.1f} nats of "
            f"{found.tokens.threshold:.1f})"
        ),
        (
            "reported, not judged here: assert_optimized judges it. Look at which probabilities of the draft the "
            "verification is given, and whether proposals were drawn from just these"
        ),
    )


def _highest(values: Mapping[str, float], count: int = 3) -> list[tuple[str, float]]:
    return sorted(values.items(), key=lambda item: -item[1])[:count]


def _causes(sample: DrawnSample, found: SamplingFindings, sampling: SamplingParams) -> tuple[list[str], FloatArray]:
    """The fault that explains the tokens best, where one does, and by how much at each token."""
    target = TopLogprobs.concatenate([item.target.logprobs for item in sample.drawn])
    known = sample.draft is not None
    draft = TopLogprobs.concatenate([item.drafts[found.reading] for item in sample.drawn]) if known else None
    best = likeliest_laws(target, draft, sample.proposed(), sampling.temperature)[0]
    causes = [f"{best.cause} ({best.gain:.0f} nats likelier than lossless)"] if best.gain > CONVINCING else []
    try:
        warped = [warp(item.acted_on, sampling, tie_margin=sample.rates.tie_margin) for item in sample.drawn]
    except IncompleteEvidenceError:  # what the sampler reports does not determine its law
        return causes, best.gains
    own = sampling_evidence(warped, false_alarm=sample.rates.false_alarm)
    against = sampling_evidence([item.target for item in sample.drawn], false_alarm=sample.rates.false_alarm)
    if against.alarm and not own.alarm:
        causes.append(
            "the sampling is faithful to the candidate's own logits, and these are not the reference's: "
            "see assert_equivalent"
        )
    return causes, best.gains


def _support(sample: DrawnSample, sampling: SamplingParams) -> list[str]:
    """Which filter the tokens outside the support got past."""

    def explained(by: SamplingParams) -> bool:
        margin = sample.rates.tie_margin
        return not any(warp(item.scored, by, tie_margin=margin).violations.any() for item in sample.drawn)

    if sampling.temperature != 1 and explained(replace(sampling, temperature=1.0)):
        return ["the filters cut before the temperature is applied: at temperature 1 they allow every token"]
    found = []
    for name, off in FILTERS.items():
        if getattr(sampling, name) == off:
            continue
        if explained(replace(sampling, **{name: off})):
            found.append(f"{name}={getattr(sampling, name):g} is not applied: without it every token is possible")
    return found or ["tokens that no filter alone explains lie outside the support"]


def _worst(sample: DrawnSample, gains: FloatArray) -> list[str]:
    ends = np.cumsum([len(item.scored) for item in sample.drawn])
    continuations = [item.generation.continuation for item in sample.drawn]
    row, place = worst_place([item.prompt_id for item in sample.drawn], continuations, np.split(gains, ends[:-1]))
    item = sample.drawn[row]
    lines = place.describe(sample.candidate, item.scored, item.generation.logprobs)
    step = item.blocks
    if step.proposed[place.index]:
        fate = "accepted" if step.accepted[place.index] else "rejected and replaced"
        lines.append(f"  proposal {step.place[place.index] + 1} of {step.drafted[place.index]} there, {fate}")
    return [f"  {line}" for line in lines]
