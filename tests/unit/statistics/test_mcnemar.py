"""The paired test is exact and its interval holds."""

import math

import numpy as np
import pytest
from scipy import stats

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.statistics.mcnemar import mcnemar


def outcomes(both, lost, won, neither):
    counts = (both, lost, won, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_p_value_is_the_exact_binomial_of_the_disagreements():
    result = mcnemar(*outcomes(70, 9, 2, 19))
    assert result.p_value == pytest.approx(2 * stats.binom.cdf(2, 11, 0.5))
    assert (result.lost, result.won) == (9, 2)
    assert result.difference.point == pytest.approx(-0.07)


def test_interval_worked_by_hand():
    found = mcnemar(*outcomes(70, 9, 2, 19)).difference
    worse, better = 10 / 102, 3 / 102
    half = stats.norm.ppf(0.975) * math.sqrt((worse + better - (better - worse) ** 2) / 102)
    assert (found.low, found.high) == pytest.approx((better - worse - half, better - worse + half))


def test_sides_that_never_disagree_are_equal_but_not_with_certainty():
    result = mcnemar(*outcomes(50, 0, 0, 50))
    assert result.p_value == 1
    assert result.difference.low < 0 < result.difference.high


def test_interval_covers_the_difference_in_accuracy():
    rng = np.random.default_rng(0)
    chances = [0.7, 0.08, 0.03, 0.19]
    found = [mcnemar(*outcomes(*rng.multinomial(80, chances))).difference for _ in range(500)]
    assert np.mean([not e.low <= -0.05 <= e.high for e in found]) <= 0.05 + 0.03


def test_false_alarms_stay_within_the_level():
    rng = np.random.default_rng(0)
    alarms = [mcnemar(*outcomes(*rng.multinomial(100, [0.7, 0.06, 0.06, 0.18]))).p_value < 0.05 for _ in range(400)]
    assert np.mean(alarms) <= 0.05


def test_bad_outcomes_are_refused():
    with pytest.raises(EmptySampleError):
        mcnemar(np.empty(0, bool), np.empty(0, bool))
    with pytest.raises(ValueError, match="paired"):
        mcnemar(np.ones(3, bool), np.ones(2, bool))
    with pytest.raises(ValueError, match="true or false"):
        mcnemar(np.array([1.0, math.nan]), np.ones(2, bool))
