"""Accepting as often as allowed is no evidence, accepting everything is, and too seldom never is."""

import numpy as np
import pytest

from pytest_llmopt.statistics.acceptance_evidence import excess_acceptance

THRESHOLD = np.log(1e4)


def test_the_bound_itself_seldom_wins():
    """At a false-alarm rate of 1 %: the share of runs that ever exceed it stays below, with the binomial error."""
    generator = np.random.default_rng(3)
    alarms = 0
    for _ in range(400):
        bound = generator.uniform(0.2, 1.0, 300)
        alarms += excess_acceptance(bound, generator.random(300) < bound).max() > np.log(100)
    assert alarms / 400 < 0.01 + 3 * np.sqrt(0.01 * 0.99 / 400)


def test_one_step_is_a_fair_game():
    bound = np.array([0.3])
    won = [np.exp(excess_acceptance(bound, np.array([accepted]))[0]) for accepted in (True, False)]
    assert 0.3 * won[0] + 0.7 * won[1] == pytest.approx(1.0)


def test_accepting_everything_is_seen_within_fifty_proposals_and_nothing_never():
    bound = np.full(50, 0.6)
    assert excess_acceptance(bound, np.ones(50, bool)).max() > THRESHOLD
    assert excess_acceptance(bound, np.zeros(50, bool)).max() < 0


def test_a_floor_takes_away_what_rounding_could_win():
    bound, accepted = np.full(200, 0.6), np.arange(200) % 5 < 4
    assert excess_acceptance(bound, accepted, floor_kl=1e-3)[-1] < excess_acceptance(bound, accepted)[-1]


def test_nan_stays_nan_and_lengths_must_fit():
    assert np.isnan(excess_acceptance(np.array([0.5, np.nan]), np.array([True, True]))[-1])
    with pytest.raises(ValueError, match="do not fit"):
        excess_acceptance(np.array([0.5]), np.array([True, False]))


def test_too_few_acceptances_are_too_many_rejections():
    generator = np.random.default_rng(7)
    least = generator.uniform(0.5, 0.95, (400, 300))
    chance = generator.random((400, 300))
    peaks = [excess_acceptance(1 - due, drawn >= due).max() for due, drawn in zip(least, chance, strict=True)]
    assert np.mean(np.array(peaks) > np.log(100)) <= 0.02
    few = [excess_acceptance(1 - due, drawn >= 0.6 * due).max() for due, drawn in zip(least, chance, strict=True)]
    assert min(few) > np.log(100)
