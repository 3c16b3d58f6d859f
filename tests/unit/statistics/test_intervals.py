"""Clustered intervals cover what they promise with few, skewed prompts, and admit it where they know nothing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.core.verdict import Status, Tolerance, judge
from pytest_llmopt.statistics.clusters import Clusters
from pytest_llmopt.statistics.intervals import (
    cluster_mean,
    cluster_proportion,
    cluster_quantile,
    confidence_per_look,
    smallest_detectable_effect,
)

RUNS = 600


def skewed_prompts(rng, prompts, tokens=64, between=0.5):
    """KL-like values: log-normal within prompts (sigma 2), log-normal between them."""
    return list(rng.lognormal(0, 2, (prompts, tokens)) * rng.lognormal(0, between, (prompts, 1)))


SKEWED_MEAN = math.exp(2 + 0.5**2 / 2)


def misses(interval, truth, runs=RUNS):
    """How often an interval lies wholly above, and wholly below, the truth."""
    estimates = [interval(run) for run in range(runs)]
    return np.mean([e.low > truth for e in estimates]), np.mean([e.high < truth for e in estimates])


def student(values):
    """The plain cluster t interval that Hall's transformation corrects."""
    means = np.array([prompt.mean() for prompt in values])
    return stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))


def test_symmetric_prompts_give_the_t_interval_of_their_means():
    means = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    estimate = cluster_mean([np.full(4, mean) for mean in means])
    assert (estimate.low, estimate.high) == pytest.approx(stats.t.interval(0.95, 4, 0, stats.sem(means)))
    assert estimate.n == 5


def test_values_that_cannot_be_negative_may_have_a_tail_that_few_prompts_do_not_show():
    deviations = np.linspace(-2, 2, 24)
    signed, nonnegative = (cluster_mean([np.full(4, value) for value in deviations + shift]) for shift in (0, 7))
    assert nonnegative.low - 7 == pytest.approx(signed.low)
    assert 1.05 < (nonnegative.high - 7) / signed.high < 1.1


def test_long_prompts_weigh_more():
    assert cluster_mean([np.zeros(9), np.ones(1)]).point == pytest.approx(0.1)


def test_the_interval_leans_towards_the_long_tail():
    skewed = [np.array([value]) for value in (-1.0, 1.1, 1.2, 0.9, 1.0, 6.0, 1.1, 0.8)]
    right = cluster_mean(skewed)
    left = cluster_mean([-values for values in skewed])
    assert right.high - right.point > right.point - right.low
    assert (left.low, left.high) == pytest.approx((-right.high, -right.low))


@pytest.mark.parametrize("prompts", [8, 16, 32])
def test_mean_of_normal_prompts_is_covered_as_promised(prompts):
    rng = np.random.default_rng(prompts)
    draw = lambda _: cluster_mean(list(rng.normal(0.3 * rng.standard_normal((prompts, 1)), 1, (prompts, 64))))  # noqa: E731
    above, below = misses(draw, 0.0)
    assert above + below < 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)


@pytest.mark.parametrize(("prompts", "allowed"), [(8, 0.13), (16, 0.13), (32, 0.10)])
def test_skewed_prompts_are_covered_better_than_by_student(prompts, allowed):
    rng = np.random.default_rng(prompts)
    samples = [skewed_prompts(rng, prompts) for _ in range(RUNS)]
    above, below = misses(lambda run: cluster_mean(samples[run]), SKEWED_MEAN)
    student_below = np.mean([student(sample)[1] < SKEWED_MEAN for sample in samples])
    assert above <= 0.025 + 0.015  # a FAIL that is not deserved stays as rare as promised
    assert below <= allowed  # a PASS that is not deserved is rarer than by Student's interval
    assert below <= student_below - 0.02


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=5), min_size=2, max_size=6))
@settings(max_examples=100, deadline=None)
def test_the_point_lies_inside_and_the_sign_mirrors(values):
    prompts = [np.array(prompt) for prompt in values]
    estimate, mirrored = cluster_mean(prompts), cluster_mean([-prompt for prompt in prompts])
    assert estimate.low <= estimate.point <= estimate.high
    if min(map(min, values)) < 0 < max(map(max, values)):  # else zero bounds one of the two
        assert (mirrored.low, mirrored.high) == pytest.approx((-estimate.high, -estimate.low), abs=1e-9)


def test_a_nonnegative_quantity_is_never_negative():
    rng = np.random.default_rng(0)
    assert all(cluster_mean(skewed_prompts(rng, 4, 3, 2.0)).low >= 0 for _ in range(50))


def test_one_prompt_decides_nothing():
    estimate = cluster_mean([np.array([0.1, 0.2])])
    assert (estimate.low, estimate.high, estimate.n) == (0.0, math.inf, 1)
    assert judge(estimate, Tolerance(at_most=1.0)) is Status.INCONCLUSIVE
    assert cluster_mean([np.array([-0.1, 0.2])]).low == -math.inf


@pytest.mark.parametrize("function", [cluster_mean, cluster_proportion, smallest_detectable_effect])
@pytest.mark.parametrize("nothing", [[], [np.empty(0)]])
def test_an_empty_sample_raises(function, nothing):
    with pytest.raises(EmptySampleError):
        function(nothing)
    with pytest.raises(EmptySampleError):
        cluster_quantile(nothing, 0.99)


def test_nan_and_infinity_are_never_dropped():
    estimate = cluster_mean([np.array([1.0, math.nan]), np.ones(3)])
    assert all(math.isnan(value) for value in (estimate.point, estimate.low, estimate.high))
    assert judge(cluster_mean([np.array([1.0, math.inf]), np.ones(3)]), Tolerance(at_most=9)) is Status.FAIL
    assert math.isnan(cluster_quantile([np.array([1.0, math.nan])], 0.5).high)


def test_a_prompt_without_tokens_is_not_counted():
    assert cluster_mean([np.ones(2), np.empty(0), np.zeros(2)]).n == 2


def test_agreement_everywhere_still_has_a_width():
    estimate = cluster_proportion([np.ones(72, bool)] * 32)
    assert estimate.point == 1
    assert estimate.high == 1
    assert 0.99 < estimate.low < 0.995
    none = cluster_proportion([np.zeros(72, bool)] * 32)
    assert (none.low, none.high) == pytest.approx((0, 1 - estimate.low))


def test_single_items_give_the_clopper_pearson_interval():
    outcomes = [np.array([value]) for value in [True] * 17 + [False] * 3]
    exact = stats.binomtest(17, 20).proportion_ci(method="exact")
    estimate = cluster_proportion(outcomes)
    assert estimate.low == pytest.approx(exact.low, abs=0.01)
    assert estimate.high == pytest.approx(exact.high, abs=0.01)


def test_prompts_of_very_different_lengths_count_as_fewer():
    equal = Clusters.of([np.full(32, value) for value in (1.0, 2.0, 3.0, 4.0, 2.0, 3.0, 1.0, 4.0)])
    unequal = Clusters.of(
        [
            np.full(size, value)
            for size, value in zip((1, 1, 1, 1, 64, 64, 64, 64), (1.0, 2, 3, 4, 2, 3, 1, 4), strict=True)
        ]
    )
    assert equal.degrees_of_freedom == pytest.approx(7)
    assert unequal.degrees_of_freedom < 3.2


def test_the_jackknife_is_the_standard_error_of_a_mean_where_prompts_are_equally_long():
    means = np.array([0.3, 1.0, 2.0, 5.0, 0.1])
    assert Clusters.of([np.full(4, mean) for mean in means]).standard_error == pytest.approx(stats.sem(means))


@pytest.mark.parametrize(("share", "correlation"), [(0.97, 0.1), (0.99, 0.05), (0.995, 0.1), (0.9, 0.2), (0.5, 0.05)])
@pytest.mark.parametrize("prompts", [8, 32])
def test_proportions_are_covered_as_promised_with_correlated_tokens(share, correlation, prompts):
    rng = np.random.default_rng(prompts)
    spread = (1 - correlation) / correlation
    rates = rng.beta(share * spread, (1 - share) * spread, (300, prompts))
    above, below = misses(lambda run: cluster_proportion([rng.random(64) < rate for rate in rates[run]]), share, 300)
    assert above <= 0.08
    assert below <= 0.05


def test_quantile_covers_and_needs_enough_tokens_for_an_upper_limit():
    rng = np.random.default_rng(0)
    draw = lambda _: cluster_quantile(list(rng.exponential(size=(16, 64))), 0.99)  # noqa: E731
    above, below = misses(draw, -math.log(0.01), 300)
    assert above <= 0.05
    assert below <= 0.05
    few = cluster_quantile(list(rng.exponential(size=(16, 64))), 0.999)
    assert few.high == math.inf
    assert few.low <= few.point < math.inf
    with pytest.raises(ValueError, match="between 0 and 1"):
        cluster_quantile([np.ones(3)], 1.0)


def test_quantile_of_independent_tokens_worked_by_hand():
    estimate = cluster_quantile([np.array([value]) for value in range(1, 101)], 0.5)
    assert estimate.point == 50
    assert (estimate.low, estimate.high) == (40, 61)  # binomial(100, 1/2) leaves 2.5 % beyond either


def test_the_smallest_detectable_effect_is_found_as_often_as_stated():
    rng = np.random.default_rng(0)
    sample = [rng.normal(level, 1, 64) for level in 0.3 * rng.standard_normal(16)]
    effect = smallest_detectable_effect(sample)
    typical = math.sqrt((0.3**2 + 1 / 64) / 16) * (stats.t.ppf(0.975, 15) + stats.t.ppf(0.8, 15))
    assert effect == pytest.approx(typical, rel=0.4)
    found = [
        cluster_mean([rng.normal(typical + level, 1, 64) for level in 0.3 * rng.standard_normal(16)]).low > 0
        for _ in range(400)
    ]
    assert 0.7 < np.mean(found) < 0.9
    assert smallest_detectable_effect([np.ones(3)]) == math.inf


def test_the_smallest_detectable_effect_is_not_zero_where_all_agree():
    assert 0.005 < smallest_detectable_effect([np.ones(72, bool)] * 32) < 0.03
    split = [np.arange(50) < 25] * 20
    assert smallest_detectable_effect(split) == pytest.approx(2.95 * math.sqrt(0.25 / 1000), rel=0.3)


def test_a_sample_that_grows_until_it_decides_keeps_its_confidence():
    rng = np.random.default_rng(0)
    wrong = {0.95: 0, confidence_per_look(0.95, 4): 0}
    for _ in range(600):
        prompts = list(0.3 * rng.standard_normal((64, 1)) + 0.1 * rng.standard_normal((64, 8)))
        for confidence in wrong:
            wrong[confidence] += any(cluster_mean(prompts[:looked], confidence).low > 0 for looked in (8, 16, 32, 64))
    assert wrong[0.95] / 600 > 0.035
    assert wrong[confidence_per_look(0.95, 4)] / 600 <= 0.025 + 0.01
