"""The audit of margins: how far a verdict is from its limit, and a session that fails where that is too near."""

import math
from pathlib import Path

import margins
import pytest

from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance, Verdict

INF = math.inf
DISTANCES = {
    "a divergence, half the way to its limit": ("kl", (0.005, 0.01), (-INF, 0.02), "nats/token", 0.5),
    "the same beyond its limit": ("kl", (0.03, 0.05), (-INF, 0.02), "nats/token", 0.5),
    "on both sides: the end that is nearer": ("kl", (0.019, 0.05), (-INF, 0.02), "nats/token", 0.05),
    "agreement is 1 where nothing differs": ("top1_agreement", (0.96, 0.99), (0.95, INF), "share", 0.2),
    "a share that must be small is 0": ("accuracy_loss", (-0.02, 0.005), (-INF, 0.01), "share", 0.5),
    "a ratio is 1 where nothing differs": ("perplexity_ratio", (0.99, 1.01), (-INF, 1.02), "", 0.5),
    "a saving that is worth it": ("weight_saving", (1.8, 2.1), (1.5, INF), "x", 0.6),
    "a clock": ("decode_speedup", (1.5, 2.1), (1.5, INF), "x", INF),
    "between two limits": ("bytes_per_weight", (1.1, 1.1), (0.9, 1.4), "bytes", 0.8),
    "a count is exact": ("nonfinite", (0, 0), (-INF, 0), "positions", INF),
    "a count at its limit is exact": ("adapted", (1, 1), (1, INF), "modules", INF),
    "a count with an open end": ("decoded_positions", (64, INF), (64, INF), "positions", INF),
    "all of something": ("packed", (0.96, 0.96), (1, INF), "share", INF),
    "evidence that stopped growing where it sufficed": ("log_wealth", (9.3, 9.3), (-INF, 9.2), "nats", INF),
    "evidence that nearly sufficed": ("log_wealth", (8.28, 8.28), (-INF, 9.2), "nats", 0.1),
    "not a number never passes": ("kl", (math.nan, math.nan), (-INF, 0.02), "nats/token", INF),
    "without a limit": ("kl", (0.0, 1.0), (-INF, INF), "nats/token", INF),
}


def metric(interval, tolerance, unit=""):
    return Metric(Estimate(sum(interval) / 2, *interval, 8), Tolerance(*tolerance), unit)


@pytest.mark.parametrize("case", DISTANCES)
def test_the_distance_is_a_share_of_the_way_from_no_difference_to_the_limit(case):
    name, interval, tolerance, unit, expected = DISTANCES[case]
    assert margins.distance(name, metric(interval, tolerance, unit)) == pytest.approx(expected)


def test_what_is_only_reported_is_not_near_anything():
    assert margins.distance("kl", Metric(Estimate(0.5, 0.4, 0.6, 8))) == INF


CONFTEST = f"""
import sys

sys.path.insert(0, {str(Path(margins.__file__).parent)!r})

pytest_plugins = ["margins"]
"""
TESTS = """
import pytest

from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance, Verdict


def checked(high, module="pytest_llmopt.checks.invented"):
    given = {"kl": Metric(Estimate(0, 0, high, 8), Tolerance(at_most=1))}
    scope = {"__name__": module, "Verdict": Verdict, "given": given}
    exec("verdict = Verdict('invented', given, '')", scope)


def test_far():
    checked(0.5)


@pytest.mark.near_limit("judges the judge")
def test_declared():
    checked(0.99)


def test_by_hand():
    checked(0.99, "tests.unit.invented")
"""
ONE = "2 judged metrics, 1 nearer to a limit than 10% of the way to it, 0 of them"
MORE = "4 judged metrics, 3 nearer to a limit than 10% of the way to it, 2 of them"
UNDECLARED = "\n\ndef test_near():\n    checked(0.92)\n    checked(0.99)\n"


@pytest.mark.parametrize(
    ("more", "workers", "told"),
    [
        pytest.param(
            "", (), "2 judged metrics, 1 nearer to a limit than 10% of the way to it, 0 of them", id="declared"
        ),
        pytest.param(UNDECLARED, (), MORE, id="undeclared"),
        pytest.param(UNDECLARED, ("-n", "1"), MORE, id="undeclared, on a worker"),
    ],
)
def test_a_session_fails_where_a_verdict_is_near_its_limit_without_a_reason(pytester, monkeypatch, more, workers, told):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=TESTS + more)
    result = pytester.runpytest_inprocess(*workers)
    assert result.ret == bool(more)
    result.assert_outcomes(passed=4 if more else 3)
    shown = result.stdout.str()
    assert told in shown
    assert "test_it.py::test_declared: invented, kl [0, 0.99] in [-inf, 1], 1.0%" in shown
    assert ("test_it.py::test_near: invented, kl [0, 0.92] in [-inf, 1], 8.0%" in shown) is bool(more)
    assert ("NOT DECLARED" in shown) is bool(more)


def test_verdicts_are_watched_wherever_they_are_given():
    assert Verdict.__init__.__module__ == "margins"
