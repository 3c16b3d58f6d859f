"""A growing sample of prompts that both sides of an accuracy check have scored, and what is thought of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmopt.checks._accuracy.scored import by_text, score, worst_prompt
from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.core.requests import Score
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, worst
from pytest_llmopt.statistics.intervals import (
    cluster_mean,
    cluster_proportion,
    cluster_quantile,
    confidence_per_look,
    smallest_detectable_effect,
)
from pytest_llmopt.statistics.perplexity import perplexity_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.checks._accuracy.scored import ScoredText
    from pytest_llmopt.core.optimization import AccuracyLimits
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

INTERVALS = 4
"""Judged ones: KL on each path, top-1 agreement, perplexity ratio. The other metrics are counted, not estimated."""
FEWEST_DECODED = 64
"""Decoded positions below which the decode path has not been seen; the defaults give 1,024."""
FEWEST_OF_PROMPT = 16
"""Positions below which a prompt's mean is not judged by itself."""


@dataclass(frozen=True)
class AccuracyOpinion:
    """The metrics of a sample, some of which may ask for more of it."""

    metrics: Mapping[str, Metric]

    @property
    def status(self) -> Status:
        """The worst of the judged ones."""
        return worst([metric.status for metric in self.metrics.values() if metric.status is not None])


@dataclass
class AccuracySample:
    """What both sides thought of prompts so far, and what it is judged by."""

    candidate: Side
    reference: Side
    sampling: SamplingParams
    limits: AccuracyLimits
    scored: list[ScoredText] = field(default_factory=list)
    """Of the prompts that the sample grows by."""
    deep: list[ScoredText] = field(default_factory=list)
    """Of the longest ones, each judged by itself."""
    used: int = 0
    """Prompts that it has grown by."""

    def add_deep(self, prompts: Sequence[tuple[str, TokenIds]]) -> None:
        """Score the longest prompts."""
        self.deep = score(self.candidate, self.reference, prompts, self.sampling) if prompts else []

    def grow(self, prompts: Sequence[tuple[str, TokenIds]], size: int) -> None:
        """Score those of the first `size` prompts that are not yet."""
        self.scored += score(self.candidate, self.reference, prompts[self.used : size], self.sampling)
        self.used = size

    def judge(self, error_rate: float) -> AccuracyOpinion:
        """Every metric, the intervals of which share the error rate of the look.

        Raises:
            EmptySampleError: there is no text that the candidate could score.
        """
        if self.candidate.can(Score) and all(item.decoded for item in self.scored):
            msg = "no prompt has a second token, so there is no text to score: give longer prompts"
            raise EmptySampleError(msg)
        return AccuracyOpinion(_metrics(self, confidence_per_look(1 - error_rate, INTERVALS)))


def _metrics(sample: AccuracySample, confidence: float) -> dict[str, Metric]:
    scored, limits = sample.scored, sample.limits
    texts = [item for item in scored if not item.decoded]
    decoded = [item for item in scored if item.decoded]
    kl, agrees = by_text(scored, lambda item: item.kl), by_text(scored, lambda item: item.agrees)
    decode_kl = by_text(decoded, lambda item: item.kl)
    everything, depth = [*scored, *sample.deep], sum(map(len, decode_kl))
    positions = sum(len(item.kl) for item in everything)
    worst, _ = worst_prompt(everything, FEWEST_OF_PROMPT)
    worst_at_most = Tolerance(at_most=limits.worst_prompt_factor * limits.kl_divergence)
    return {
        **(_prefill_metrics(texts, limits, confidence) if texts else {}),
        "kl_decode": Metric(cluster_mean(decode_kl, confidence), Tolerance(at_most=limits.kl_divergence), "nats/token"),
        "kl_worst_prompt": Metric(worst, worst_at_most, "nats/token"),
        "top1_agreement": Metric(
            cluster_proportion(agrees, confidence), Tolerance(at_least=limits.top1_agreement), "share"
        ),
        "nonfinite": Metric(
            Estimate.exact(sum(item.nonfinite for item in everything), positions), Tolerance(at_most=0), "positions"
        ),
        # More prompts, or longer texts, only add to it.
        "decoded_positions": Metric(
            Estimate(depth, depth, math.inf, depth), Tolerance(at_least=FEWEST_DECODED), "positions"
        ),
        "kl_divergence": Metric(cluster_mean(kl), unit="nats/token"),
        "flip_rate": Metric(cluster_proportion(by_text(scored, lambda item: item.flips)), unit="share"),
        "kl_p99": Metric(cluster_quantile(kl, 0.99), unit="nats"),
        "kl_p999": Metric(cluster_quantile(kl, 0.999), unit="nats"),
        "detectable_kl": Metric(Estimate.exact(smallest_detectable_effect(kl), len(kl)), unit="nats/token"),
    }


def _prefill_metrics(texts: Sequence[ScoredText], limits: AccuracyLimits, confidence: float) -> dict[str, Metric]:
    """What the prompts' own text shows, where the candidate can score it."""
    differences = by_text(texts, lambda item: item.difference)
    ratio_at_most = Tolerance(at_most=limits.perplexity_ratio)
    kl = cluster_mean(by_text(texts, lambda item: item.kl), confidence)
    return {
        "kl_prefill": Metric(kl, Tolerance(at_most=limits.kl_divergence), "nats/token"),
        "perplexity_ratio": Metric(perplexity_ratio(differences, confidence), ratio_at_most),
        "logprob_difference": Metric(cluster_mean(differences), unit="nats"),
    }
