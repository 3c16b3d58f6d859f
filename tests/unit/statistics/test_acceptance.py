"""Proposals are accepted as often as draft and target overlap, no more and no less."""

import math

import numpy as np
import pytest
from distributions import pair, sides
from speculation_simulator import Speculation

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.statistics.acceptance import acceptance_identity, expected_acceptance


def test_without_the_tail_it_is_a_lower_bound():
    exact = expected_acceptance(*sides(0, noise=1.0))
    assert (expected_acceptance(*sides(0, 4, noise=1.0), tail=False) <= exact + 1e-12).all()
    assert expected_acceptance(*sides(0, noise=1.0), tail=False) == pytest.approx(exact)


def test_expected_acceptance_is_one_minus_the_total_variation():
    _, log_p, log_q = pair(0, noise=1.0)
    distance = np.abs(np.exp(log_p) - np.exp(log_q)).sum(axis=1) / 2
    assert expected_acceptance(*sides(0, noise=1.0)) == pytest.approx(1 - distance)
    assert (expected_acceptance(*sides(0, 4, noise=1.0)) >= 1 - distance - 1e-12).all()


def identity_of(bug, seed, tokens=2000):
    draws = Speculation(seed=1).draws(tokens, seed, bug)
    expected = expected_acceptance(draws.target.logprobs, draws.draft)
    return acceptance_identity(expected[draws.examined], draws.accepted[draws.examined])


def test_lossless_speculation_keeps_the_identity():
    found = [identity_of("", seed) for seed in range(40)]
    assert min(result.p_value for result in found) > 1e-4
    assert np.mean([r.observed.low <= r.expected <= r.observed.high for r in found]) >= 0.85


@pytest.mark.parametrize("bug", ["accept_all", "ensemble"])
def test_wrong_verification_breaks_the_identity(bug):
    assert max(identity_of(bug, seed).p_value for seed in range(3)) < 1e-4


def test_p_value_is_a_bound_for_any_number_of_proposals():
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.9, 1, (3000, 12))
    p_values = [acceptance_identity(row, rng.random(12) < row).p_value for row in shares]
    for level in (0.3, 0.1, 0.03):
        assert np.mean(np.array(p_values) <= level) <= level


def test_bad_samples_are_never_a_number():
    with pytest.raises(EmptySampleError):
        acceptance_identity(np.empty(0), np.empty(0, bool))
    with pytest.raises(ValueError, match="do not fit"):
        acceptance_identity(np.ones(2), np.ones(3, bool))
    assert math.isnan(acceptance_identity(np.array([0.5, math.nan]), np.ones(2, bool)).p_value)
