"""The worst of many benign positions stays within the floor's bound as often as stated."""

import math

import numpy as np
import pytest
from distributions import log_softmax, sides
from scipy import stats

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.statistics.agreement import top1_lead
from pytest_llmopt.statistics.divergence import logprob_difference
from pytest_llmopt.statistics.noise import lead_drift, noise_floor, tie_margin, times_floor

POSITIONS, LEVEL = 2000, 1e-3

TAILS = {
    "exponential": (lambda rng, n: rng.exponential(size=n), stats.expon.sf),
    "normal": (lambda rng, n: rng.standard_normal(n), stats.halfnorm.sf),
    "logistic": (lambda rng, n: rng.logistic(size=n), stats.halflogistic.sf),
    "student, 10 degrees": (lambda rng, n: rng.standard_t(10, n), lambda x: 2 * stats.t.sf(x, 10)),
}


@pytest.mark.parametrize("tail", sorted(TAILS))
@pytest.mark.parametrize("sample", [1000, 10_000])
def test_the_worst_of_many_exceeds_the_bound_no_more_often_than_stated(tail, sample):
    draw, survival = TAILS[tail]
    rng = np.random.default_rng(0)
    bounds = np.array([noise_floor([draw(rng, sample)]).bound(POSITIONS, LEVEL) for _ in range(200)])
    realized = -np.expm1(POSITIONS * np.log1p(-survival(bounds)))
    assert realized.mean() <= LEVEL


def softmax_drifts(rng, positions):
    """Drift of the emitted token, and of the lead, when logits are off by normal noise of differing size."""
    logits = 3 * rng.standard_normal((positions, 50))
    noise = 0.02 * rng.lognormal(0, 0.3, (positions, 1)) * rng.standard_normal(logits.shape)
    there = logits.argmax(axis=1)
    both = [TopLogprobs.from_logprobs(there, log_softmax(side)) for side in (logits, logits + noise)]
    return logprob_difference(*both), lead_drift(*both, within=math.inf)


def test_drift_of_a_softmax_exceeds_its_bound_no_more_often_than_stated():
    rng = np.random.default_rng(0)
    drift, lead = softmax_drifts(rng, 40_000)
    for values in (drift, lead):
        over = 0
        for run in range(20):
            floor = noise_floor([values[run * 500 : run * 500 + 500]])
            others = np.delete(values, slice(run * 500, run * 500 + 500))
            over += (np.abs(others) > floor.bound(500, 0.05)).mean() * 500
        assert over / 20 <= 0.05


def test_p_value_inverts_the_bound():
    floor = noise_floor([np.random.default_rng(0).standard_normal(3000)])
    for level in (0.01, 1e-4, 1e-8):
        assert floor.p_value(floor.bound(500, level), 500) == pytest.approx(level, rel=1e-6)
    assert floor.p_value(0.0, 500) == 1
    assert floor.p_value(math.inf, 500) == 0


def test_more_positions_have_a_larger_worst():
    floor = noise_floor([np.random.default_rng(0).standard_normal(3000)])
    assert floor.bound(10) < floor.bound(1000) < floor.bound(100_000)
    assert floor.scale == pytest.approx(1, rel=0.05)


def test_a_tie_is_decided_by_less_than_the_lead_can_drift():
    reference, candidate = sides(5, tokens=4000, noise=0.02)
    leads = noise_floor([lead_drift(reference, candidate)])
    margin = tie_margin(leads, 4000, 0.01)
    rows = np.arange(4000)
    flipped = reference.top_ids[:, 0] != candidate.top_ids[:, 0]
    regret = reference.top_logprobs[:, 0] - reference.lookup(candidate.top_ids[:, :1])[rows, 0]
    assert flipped.any()
    assert (regret[flipped] <= margin).all()
    assert margin < 0.3


def test_only_near_ties_count_unless_asked_otherwise():
    reference, candidate = sides(5, tokens=400)
    every, near = lead_drift(reference, candidate, within=math.inf), lead_drift(reference, candidate, within=0.5)
    assert (near == every[top1_lead(reference) <= 0.5]).all()
    assert 0 < len(near) < len(every) == 400


def test_lead_drift_worked_by_hand():
    reference = TopLogprobs.from_logprobs(np.array([2]), np.log([[0.5, 0.25, 0.25]]))
    candidate = TopLogprobs.from_logprobs(np.array([2]), np.log([[0.4, 0.4, 0.2]]))
    assert lead_drift(reference, candidate) == pytest.approx([-math.log(2)])
    assert np.isnan(lead_drift(reference, TopLogprobs.from_logprobs(np.array([2]), np.log([[0.4, 0.2, 0.4]]), 1)))
    with pytest.raises(ValueError, match="top 2"):
        lead_drift(TopLogprobs.from_logprobs(np.array([2]), np.log([[0.5, 0.25, 0.25]]), 1), candidate)


def test_a_floor_of_exactly_zero_explains_nothing():
    floor = noise_floor([np.zeros(100)])
    assert floor.bound(1000) == 0
    assert floor.p_value(0.0, 1000) == 1
    assert floor.p_value(1e-9, 1000) == 0


def test_nan_in_the_floor_passes_nothing():
    floor = noise_floor([np.append(np.ones(60), math.nan)])
    assert math.isnan(floor.bound(10))
    assert math.isnan(floor.p_value(1.0, 10))


def test_too_small_a_floor_raises():
    for sample in ([], [np.ones(39)]):
        with pytest.raises(EmptySampleError, match="at least 40"):
            noise_floor(sample)


def test_times_floor():
    assert times_floor(3.0, 2.0) == 1.5
    assert times_floor(0.0, 0.0) == 1
    assert times_floor(1e-9, 0.0) == math.inf
