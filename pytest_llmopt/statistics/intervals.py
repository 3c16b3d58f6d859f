"""Confidence intervals over tokens that are clustered in prompts: the prompt is what was sampled, not the token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.verdict import Estimate
from pytest_llmopt.statistics.clusters import Clusters
from pytest_llmopt.statistics.distributions import beta_quantile, t_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import BoolArray, FloatArray


def cluster_mean(values: Sequence[FloatArray], confidence: float = 0.95) -> Estimate:
    """Mean over all tokens of all prompts with an interval clustered by prompt, in the unit of the values.

    The point is the ratio of totals, so long prompts weigh more. The interval is the hull of two: the t interval of
    the jackknife's standard error, and the same corrected for skewness by Hall's cubic transformation (Hall 1992, "On
    the removal of skewness by transformation", JRSS B 54). For 8 to 32 prompts of heavily skewed values (KL), a plain t
    interval lies wholly below the true mean in 10 to 22 % of samples where 2.5 % were promised, which is a PASS for a
    model that does not deserve it; Hall's alone lies above it too often where prompts are of very different lengths,
    which is a FAIL. BCa is no better, the bootstrap-t as good as Hall's but random, and unbounded for a handful of
    prompts. `benchmarks/calibration/` measures it.

    Values that are all nonnegative are taken to be so by nature: `low` is then at least 0, and `high` takes the
    skewness one standard error larger than it was seen, since a few prompts rarely show the tail that makes it. One
    prompt tells nothing about others: its interval is infinite. Identical prompts have a degenerate interval. NaN
    anywhere makes all three NaN; an infinite value makes the mean infinite for certain.

    Args:
        values: one array per prompt, `[tokens]` each; prompts without tokens are not counted.
        confidence: of the two-sided interval.

    Raises:
        EmptySampleError: there is no token.
    """
    sample = Clusters.of(values)
    if not math.isfinite(sample.ratio):
        return Estimate.exact(sample.ratio, sample.clusters)
    if sample.clusters == 1:
        return Estimate(sample.ratio, 0.0 if sample.nonnegative else -math.inf, math.inf, 1, confidence)
    t = t_quantile((1 + confidence) / 2, sample.degrees_of_freedom)
    unseen = sample.skewness_error if sample.nonnegative else 0.0
    low = sample.ratio - max(t, _unskew(t, sample.skewness)) * sample.standard_error
    high = sample.ratio + max(t, -_unskew(-t, sample.skewness + unseen)) * sample.standard_error
    return Estimate(sample.ratio, max(low, 0.0) if sample.nonnegative else low, high, sample.clusters, confidence)


def cluster_proportion(values: Sequence[BoolArray], confidence: float = 0.95) -> Estimate:
    """Share of tokens that are true, with an interval inside [0, 1] clustered by prompt.

    Clopper-Pearson on the effective sample size, tokens over design effect, corrected for prompts - 1 degrees of
    freedom (Korn and Graubard 1998, Survey Methodology 24). The design effect, at least 1, is estimated from the
    spread between prompts. That says nothing where an outcome was seen in few prompts or none, so it is averaged with
    that of an assumed correlation of 0.05 between tokens of a prompt, the latter weighing as 4 prompts and the former
    as the number of prompts that show the rarer outcome (`clusters.ASSUMED_CORRELATION`, `ASSUMED_CLUSTERS`), and never
    lowered by that. So all ones do not give a zero-width interval: 32 prompts of 72 tokens that all agree give
    [0.992, 1]. `benchmarks/calibration/` measures it: 8 prompts whose tokens are correlated by 0.2 miss in 7 %.

    Raises:
        EmptySampleError: there is no token.
    """
    sample = Clusters.of(values)
    size = sample.effective_size(confidence)
    hits, misses = sample.ratio * size, (1 - sample.ratio) * size
    tail = (1 - confidence) / 2
    low = beta_quantile(tail, hits, misses + 1) if hits > 0 else 0.0
    high = beta_quantile(1 - tail, hits + 1, misses) if misses > 0 else 1.0
    return Estimate(sample.ratio, low, high, sample.clusters, confidence)


def cluster_quantile(values: Sequence[FloatArray], level: float, confidence: float = 0.95) -> Estimate:
    """The value that a share `level` of all tokens stays at or below, with an interval clustered by prompt.

    Woodruff's interval (1952, JASA 47): the binomial limits of the share, on the effective sample size of the indicator
    "at or below the sample quantile", are read back from the sample. Distribution-free, so where the sample is too
    small for an upper limit (level ** effective size above half of 1 - confidence; 99.9 % takes 3,700 effective
    tokens), `high` is infinite rather than the largest value seen. NaN anywhere makes all three NaN.

    Raises:
        EmptySampleError: there is no token.
        ValueError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        msg = f"a quantile's level must lie between 0 and 1, got {level}"
        raise ValueError(msg)
    clusters = Clusters.of(values).clusters
    pooled = np.concatenate([np.asarray(prompt, np.float64) for prompt in values])
    if np.isnan(pooled).any():
        return Estimate.exact(math.nan, clusters)
    pooled.sort()
    point = _quantile(pooled, level)
    size = Clusters.of([np.asarray(prompt) <= point for prompt in values]).effective_size(confidence)
    tail = (1 - confidence) / 2
    hits, misses = level * size, (1 - level) * size
    low = _quantile(pooled, beta_quantile(tail, hits, misses + 1))
    high = _quantile(pooled, beta_quantile(1 - tail, hits + 1, misses)) if level**size <= tail else math.inf
    return Estimate(point, low, high, clusters, confidence)


def confidence_per_look(confidence: float, looks: int) -> float:
    """The confidence that each interval needs so that all of them hold at once with `confidence` (Bonferroni).

    A sample that grows until its interval decides is looked at several times, and each look is a chance to be wrong:
    four looks at 95 % decide wrongly in one direction up to four times 2.5 % of the time.
    """
    return 1 - (1 - confidence) / looks


def smallest_detectable_effect(
    values: Sequence[FloatArray | BoolArray],
    confidence: float = 0.95,
    power: float = 0.8,
) -> float:
    """How far beyond its limit the true mean must lie to be found there with probability `power`, in the values' unit.

    (t_confidence + t_power) standard errors (Bloom 1995, "Minimum detectable effects"), where found means that the
    whole interval lies beyond the limit. For true-or-false values the standard error is that of the effective sample
    size of `cluster_proportion` with two hits and two misses added, so that it is not zero where all agree. Infinite
    for one prompt.

    Raises:
        EmptySampleError: there is no token.
    """
    sample = Clusters.of(values)
    if sample.clusters == 1:
        return math.inf
    degrees = sample.degrees_of_freedom
    error = sample.standard_error
    if all(np.asarray(prompt).dtype == bool for prompt in values):
        size = sample.effective_size(confidence) + 4
        share = (sample.ratio * (size - 4) + 2) / size
        error = math.sqrt(share * (1 - share) / size)
    return (t_quantile((1 + confidence) / 2, degrees) + t_quantile(power, degrees)) * error


def _unskew(quantile: float, skewness: float) -> float:
    """The inverse of Hall's cubic transformation, where `skewness` is already over the square root of n."""
    if abs(skewness) < 1e-6:  # noqa: PLR2004 - the limit, where the formula cancels
        return quantile
    return float(3 / skewness * (np.cbrt(1 + skewness * (quantile - skewness / 6)) - 1))


def _quantile(ordered: FloatArray, level: float) -> float:
    """The smallest value that a share `level` of the sample is at or below."""
    return float(ordered[max(0, math.ceil(level * len(ordered) - 1e-9) - 1)])
