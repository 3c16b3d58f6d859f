"""A benign candidate keeps the false-alarm rate, a small bug does not pass, and a change is found where it begins."""

import math

import numpy as np
import pytest

from pytest_llmopt.core.errors import EmptySampleError, PositionMismatchError
from pytest_llmopt.statistics.change_point import change_point
from pytest_llmopt.statistics.drift import drift_tests, mean_drift, worst_position
from pytest_llmopt.statistics.noise import noise_floor

PROMPTS, TOKENS = 16, 64


def scales(rng, prompts=PROMPTS, tokens=TOKENS):
    """How sensitive each position of each prompt is: differs by prompt, and by position within it."""
    return list(rng.lognormal(0, 0.5, (prompts, 1)) * rng.lognormal(0, 1, (prompts, tokens)))


def noise(rng, sensitivity):
    """KL-like differences of one benign change."""
    return [prompt * rng.standard_normal(len(prompt)) ** 2 for prompt in sensitivity]


def changed(prompts, factor, since=0, starts=None):
    offsets = starts or [0] * len(prompts)
    return [
        np.where(np.arange(len(prompt)) + start >= since, factor * prompt, prompt)
        for prompt, start in zip(prompts, offsets, strict=True)
    ]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("prompts", [8, 32])
def test_mean_test_keeps_its_rate_on_skewed_prompts(paired, prompts):
    rng = np.random.default_rng(prompts)
    p_values = []
    for _ in range(500):
        ours = scales(rng, prompts)
        floor = noise(rng, ours if paired else scales(rng, prompts))
        p_values.append(mean_drift(noise(rng, ours), floor, paired=paired, benign_factor=1.0).p_value)
    for level in (0.2, 0.05, 0.01):
        assert np.mean(np.array(p_values) <= level) <= level + 3 * math.sqrt(level * (1 - level) / 500)


def test_change_test_keeps_its_rate():
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(120):
        ours = scales(rng)
        found = change_point(noise(rng, ours), noise(rng, ours), paired=True, benign_factor=1.0)
        p_values.append(found.p_value)
    assert np.mean(np.array(p_values) <= 0.1) <= 0.1


def test_all_tests_together_keep_the_rate_of_the_check():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(150):
        ours = scales(rng)
        kl, floor = noise(rng, ours), noise(rng, ours)
        tail = noise_floor([np.sqrt(prompt) for _ in range(3) for prompt in noise(rng, ours)])
        alarms += drift_tests(kl, floor, tail, paired=True, false_alarm=0.1).alarm
    assert alarms / 150 <= 0.1 + 0.05


def test_pairing_finds_a_bug_of_the_size_of_the_floor():
    rng = np.random.default_rng(0)
    ours = scales(rng)
    result = mean_drift(changed(noise(rng, ours), 2.1), noise(rng, ours), paired=True)
    assert result.alarm
    assert result.factor.low > 1.1
    assert result.factor.low < 2.1 < result.factor.high
    assert not mean_drift(changed(noise(rng, ours), 2.1), noise(rng, scales(rng)), paired=False).alarm


def test_a_benign_factor_is_not_drift():
    rng = np.random.default_rng(0)
    floor = scales(rng, 32, 200)
    assert not mean_drift([1.03 * prompt for prompt in floor], floor, paired=True).alarm
    assert mean_drift([1.2 * prompt for prompt in floor], floor, paired=True).alarm


def test_worst_position_is_found_and_placed():
    rng = np.random.default_rng(0)
    drifts = [0.01 * rng.standard_normal(40 + prompt) for prompt in range(8)]
    floor = noise_floor([0.01 * rng.standard_normal(2000)])
    assert not worst_position(drifts, floor).alarm
    drifts[5][17] = -0.2
    result = worst_position(drifts, floor)
    assert (result.prompt, result.position, result.value) == (5, 17, 0.2)
    assert result.alarm
    assert result.factor.point > 1


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("factor", "slack"), [(3000, 0), (30, 2)])
def test_a_change_is_found_where_it_begins(paired, factor, slack):
    rng = np.random.default_rng(0)
    ours = scales(rng)
    floor = noise(rng, ours if paired else scales(rng))
    starts = list(range(20, 20 + PROMPTS)) if paired else None
    candidate = changed(noise(rng, ours), factor, since=50, starts=starts)
    result = change_point(candidate, floor, paired=paired, starts=starts)
    assert result.alarm
    assert abs(result.position - 50) <= slack
    assert result.before < 3
    assert factor / 3 < result.after < factor * 3
    assert result.factor.low > 1


def test_a_change_for_the_better_is_a_change_too():
    rng = np.random.default_rng(0)
    ours = scales(rng)
    result = change_point(changed(noise(rng, ours), 1e-3, since=30), noise(rng, ours), paired=True)
    assert result.alarm
    assert result.factor.high < 1


def test_a_trend_that_the_floor_shares_is_no_change():
    rng = np.random.default_rng(0)
    ours = [prompt * np.exp(np.arange(TOKENS) / 10) for prompt in scales(rng)]
    assert not change_point(noise(rng, ours), noise(rng, ours), paired=True).alarm
    flat = change_point(noise(rng, ours), noise(rng, scales(rng)), paired=False)
    assert flat.alarm


def test_prompts_too_short_for_a_change_have_none():
    assert change_point([np.ones(5)] * 8, [np.ones(5)] * 8, paired=True) is None


def test_bit_identical_sides_do_not_alarm():
    zeros = [np.zeros(30)] * 6
    tests = drift_tests(zeros, zeros, noise_floor([np.zeros(100)]), paired=True)
    assert not tests.alarm
    assert tests.mean.factor.point == 1


def test_anything_alarms_above_a_floor_of_exactly_zero():
    zeros, some = [np.zeros(30)] * 6, [np.full(30, 1e-6)] * 6
    tests = drift_tests(some, zeros, noise_floor([np.zeros(100)]), paired=True)
    assert tests.mean.alarm
    assert tests.worst.alarm


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_alarm(value):
    rng = np.random.default_rng(0)
    ours = scales(rng)
    broken, floor = noise(rng, ours), noise(rng, ours)
    broken[3][40:] = value
    tests = drift_tests(broken, floor, noise_floor(floor), paired=True)
    assert tests.mean.alarm
    assert tests.worst.alarm
    assert (tests.worst.prompt, tests.worst.position) == (3, 40)
    assert tests.change.alarm
    assert tests.change.position == 40


def test_bad_samples_are_refused():
    with pytest.raises(EmptySampleError, match="at least two prompts"):
        mean_drift([np.ones(3)], [np.ones(3)], paired=True)
    with pytest.raises(EmptySampleError):
        mean_drift([np.ones(3), np.empty(0)], [np.ones(3)] * 2, paired=True)
    with pytest.raises(PositionMismatchError):
        mean_drift([np.ones(3)] * 3, [np.ones(3)] * 2, paired=True)
    with pytest.raises(PositionMismatchError):
        change_point([np.ones(30)] * 3, [np.ones(20)] * 3, paired=True)
    with pytest.raises(EmptySampleError):
        worst_position([], noise_floor([np.ones(50)]))
