"""A sequential design ends where it is decided, and its looks share one error rate."""

from types import SimpleNamespace

import numpy as np
import pytest

from pytest_llmopt.checks._sequential import Design, Look, doublings
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.statistics.intervals import cluster_mean


def opinion(status):
    return SimpleNamespace(status=status)


def run(statuses, decides=None):
    """What was taken, and the error rates that it was judged at, where looks come out so."""
    taken, rates, left = [], [], iter(statuses)
    looks = [
        Look(lambda place=place: taken.append(place), *([decides[place]] if decides else ()))
        for place in range(len(statuses))
    ]

    def judge(rate):
        rates.append(rate)
        return opinion(next(left))

    found = Design(0.06, looks=3).run(looks, judge)
    return found.status, taken, rates


def test_it_ends_with_the_first_look_that_decides():
    found, taken, rates = run([Status.INCONCLUSIVE, Status.FAIL, Status.PASS])
    assert (found, taken) == (Status.FAIL, [0, 1])
    assert rates == pytest.approx([0.02, 0.02])


def test_the_last_look_stands_whatever_it_says():
    assert run([Status.INCONCLUSIVE] * 3)[:2] == (Status.INCONCLUSIVE, [0, 1, 2])


def test_a_first_look_may_be_allowed_to_fail_only():
    decides = [frozenset({Status.FAIL}), frozenset(Status)]
    assert run([Status.PASS, Status.PASS], decides)[1] == [0, 1]
    assert run([Status.FAIL, Status.PASS], decides)[1] == [0]


def test_without_a_look_nothing_is_decided():
    with pytest.raises(ValueError, match="decides nothing"):
        Design(0.05).run([], lambda _rate: opinion(Status.PASS))


def test_sizes_double_up_to_the_most():
    assert doublings(16, 96) == [16, 32, 64, 96]
    assert doublings(16, 16) == [16]
    assert doublings(20, 7) == [7]


def test_looks_that_share_the_error_rate_keep_it_and_looks_that_do_not_do_not():
    """A mean at its limit: each decision is wrong, however often one looks."""

    def wrong(shared, rng):
        values = []
        sizes = doublings(8, 256)
        looks = [
            Look(lambda size=size: values.extend(np.array([own]) for own in rng.normal(size=size - len(values))))
            for size in sizes
        ]

        def judge(rate):
            found = cluster_mean(values, 1 - (rate if shared else 0.05))
            return opinion(Status.FAIL if not found.low <= 0 <= found.high else Status.INCONCLUSIVE)

        return Design(0.05, len(sizes)).run(looks, judge).status is Status.FAIL

    rng = np.random.default_rng(0)
    rates = {shared: np.mean([wrong(shared, rng) for _ in range(600)]) for shared in (True, False)}
    assert rates[True] <= 0.06
    assert rates[False] >= 0.1
