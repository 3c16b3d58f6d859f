"""The ratio of paired timings keeps its promise on a machine that others use too."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.statistics.timing import paired_ratio


def rounds(rng, count, ratio, spikes):
    """Log-normal noise, a drift of the machine that both feel, and spikes that hit the candidate only."""
    machine = np.exp(np.cumsum(0.1 * rng.standard_normal(count)))
    reference = machine * np.exp(0.05 * rng.standard_normal(count))
    hit = np.where(rng.random(count) < spikes, rng.uniform(1.5, 3, count), 1)
    return ratio * machine * np.exp(0.05 * rng.standard_normal(count)) * hit, reference


def hodges_lehmann(candidate, reference):
    """The interval that assumes symmetric log ratios: order statistics of the Walsh averages."""
    logs = np.log(candidate / reference)
    walsh = np.sort([(a + b) / 2 for a, b in itertools.combinations_with_replacement(logs, 2)])
    n = len(logs)
    outside = int(n * (n + 1) / 4 - 1.96 * math.sqrt(n * (n + 1) * (2 * n + 1) / 24))
    return np.exp(walsh[outside]), np.exp(walsh[-1 - outside])


def test_ratio_of_steady_timings_worked_by_hand():
    estimate = paired_ratio(np.array([2.0, 2.2, 1.8, 2.0, 2.0, 2.0]), np.ones(6))
    assert (estimate.point, estimate.low, estimate.high) == pytest.approx((2.0, 1.8, 2.2))
    assert estimate.n == 6


@pytest.mark.parametrize("count", [6, 7, 10, 15, 30])
def test_interval_is_the_shortest_with_the_exact_sign_test_coverage(count):
    ratios = np.exp(np.arange(count, dtype=float))
    estimate = paired_ratio(ratios, np.ones(count))
    below = round(math.log(estimate.low))
    assert 2 * stats.binom.cdf(below, count, 0.5) <= 0.05 < 2 * stats.binom.cdf(below + 1, count, 0.5)
    assert math.log(estimate.high) == pytest.approx(count - 1 - below)


def test_fewer_than_six_rounds_bound_nothing():
    estimate = paired_ratio(np.full(5, 2.0), np.ones(5))
    assert (estimate.low, estimate.high) == (0.0, math.inf)


def test_spikes_on_one_side_cost_the_median_less_than_hodges_lehmann():
    rng = np.random.default_rng(0)
    samples = [rounds(rng, 30, 0.5, 0.2) for _ in range(400)]
    median_ratio = math.exp(np.median(np.log(np.divide(*rounds(rng, 400_000, 0.5, 0.2)))))
    ours = [(estimate.low, estimate.high) for estimate in itertools.starmap(paired_ratio, samples)]
    theirs = list(itertools.starmap(hodges_lehmann, samples))

    def missed(intervals, truth):
        return np.mean([not low <= truth <= high for low, high in intervals])

    assert missed(ours, median_ratio) <= 0.05 + 0.02
    assert missed(ours, 0.5) < 0.2  # the ratio without the spikes
    assert missed(theirs, 0.5) > 0.3
    assert np.median(np.divide(*zip(*ours, strict=True))) > np.median(np.divide(*zip(*theirs, strict=True)))  # narrower


def test_drift_of_the_machine_cancels():
    rng = np.random.default_rng(1)
    estimate = paired_ratio(*rounds(rng, 40, 0.5, 0.0))
    assert estimate.low < 0.5 < estimate.high
    assert estimate.high / estimate.low < 1.1


def test_bad_timings_are_never_a_number():
    assert math.isnan(paired_ratio(np.array([1.0, math.nan]), np.ones(2)).point)
    assert math.isnan(paired_ratio(np.array([1.0, 0.0]), np.ones(2)).low)
    with pytest.raises(EmptySampleError):
        paired_ratio(np.empty(0), np.empty(0))
    with pytest.raises(ValueError, match="paired"):
        paired_ratio(np.ones(3), np.ones(2))
