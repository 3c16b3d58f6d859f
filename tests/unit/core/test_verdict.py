"""From an estimate and a tolerance to a verdict: NaN never passes, and nothing passes by accident."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict, judge, worst

NAN, INF = math.nan, math.inf
PASS, FAIL, INCONCLUSIVE = Status.PASS, Status.FAIL, Status.INCONCLUSIVE


@pytest.mark.parametrize(
    ("low", "high", "tolerance", "status"),
    [
        (1, 2, Tolerance(at_most=3), PASS),
        (1, 3, Tolerance(at_most=3), PASS),  # touching the limit from inside: the range is closed
        (1, 4, Tolerance(at_most=3), INCONCLUSIVE),
        (3, 4, Tolerance(at_most=3), INCONCLUSIVE),  # touching it from outside
        (4, 5, Tolerance(at_most=3), FAIL),
        (4, 5, Tolerance(at_least=3), PASS),
        (3, 5, Tolerance(at_least=3), PASS),
        (2, 4, Tolerance(at_least=3), INCONCLUSIVE),
        (2, 3, Tolerance(at_least=3), INCONCLUSIVE),
        (1, 2, Tolerance(at_least=3), FAIL),
        (2, 3, Tolerance(1, 4), PASS),
        (0, 5, Tolerance(1, 4), INCONCLUSIVE),
        (0, 0.5, Tolerance(1, 4), FAIL),
        (5, 6, Tolerance(1, 4), FAIL),
        (-INF, INF, Tolerance(), PASS),  # no limit at all
        (-INF, INF, Tolerance(at_most=3), INCONCLUSIVE),
        (4, INF, Tolerance(at_most=3), FAIL),
        (4, INF, Tolerance(at_least=3), PASS),
        (-INF, 2, Tolerance(at_least=3), FAIL),
    ],
)
def test_the_whole_interval_decides(low, high, tolerance, status):
    point = low if math.isfinite(low) else high if math.isfinite(high) else 0.0
    assert judge(Estimate(point, low, high, 9), tolerance) is status


@pytest.mark.parametrize(
    ("value", "status"), [(2.9, PASS), (3.0, PASS), (3.0000001, FAIL), (INF, FAIL), (-INF, PASS), (NAN, FAIL)]
)
def test_an_exact_value_is_decided_by_the_limit_alone(value, status):
    assert judge(Estimate.exact(value), Tolerance(at_most=3)) is status


@pytest.mark.parametrize("estimate", [(NAN, 0, 1), (0, NAN, 1), (0, 0, NAN), (NAN, NAN, NAN)])
@pytest.mark.parametrize("tolerance", [Tolerance(), Tolerance(at_most=3), Tolerance(at_least=-3)])
def test_an_estimate_with_nan_in_it_fails(estimate, tolerance):
    assert judge(Estimate(*estimate, 9), tolerance) is FAIL


@pytest.mark.parametrize("limits", [{"at_most": NAN}, {"at_least": NAN}, {"at_least": NAN, "at_most": NAN}])
def test_a_limit_that_is_nan_is_refused_so_that_nothing_can_be_undecided_by_it(limits):
    with pytest.raises(OptionError, match="=nan is no limit"):
        Tolerance(**limits)


NUMBERS = st.floats(allow_nan=False)


@settings(derandomize=True, deadline=None)
@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_degenerate_interval_is_always_decided(value, one, other):
    tolerance = Tolerance(min(one, other), max(one, other))
    inside = tolerance.at_least <= value <= tolerance.at_most
    assert judge(Estimate.exact(value), tolerance) is (PASS if inside else FAIL)


@settings(derandomize=True, deadline=None)
@given(st.lists(NUMBERS, min_size=3, max_size=3).map(sorted), NUMBERS)
def test_mirrored_numbers_get_the_same_verdict(values, limit):
    low, point, high = values
    upper = judge(Estimate(point, low, high, 9), Tolerance(at_most=limit))
    assert judge(Estimate(-point, -high, -low, 9), Tolerance(at_least=-limit)) is upper


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([], INCONCLUSIVE),
        ([PASS], PASS),
        ([PASS, INCONCLUSIVE, PASS], INCONCLUSIVE),
        ([INCONCLUSIVE, PASS, FAIL], FAIL),
        ([FAIL, FAIL], FAIL),
    ],
)
def test_worst_is_fail_before_inconclusive_before_pass(statuses, status):
    assert worst(statuses) is status


@pytest.mark.parametrize(
    ("tolerance", "limit"), [(Tolerance(at_most=3), 3), (Tolerance(at_least=2), 2), (Tolerance(2, 3), 3)]
)
def test_the_limit_that_a_person_reads_is_the_upper_one_where_there_is_one(tolerance, limit):
    assert tolerance.limit == limit


def test_a_metric_without_a_tolerance_is_reported_and_not_judged():
    assert Metric(Estimate.exact(NAN)).status is None
    assert Metric(Estimate.exact(1.0), Tolerance(at_most=0)).status is FAIL


def test_a_verdict_is_the_worst_of_its_judged_metrics():
    good = Metric(Estimate.exact(1.0), Tolerance(at_most=2))
    bad = Metric(Estimate.exact(3.0), Tolerance(at_most=2))
    told = Metric(Estimate.exact(NAN))
    assert Verdict("c", {"good": good, "told": told}, "").status is PASS
    assert Verdict("c", {"good": good, "bad": bad}, "").status is FAIL


@pytest.mark.parametrize("metrics", [{}, {"told": Metric(Estimate.exact(1.0))}])
def test_a_verdict_that_judged_nothing_does_not_pass(metrics):
    assert Verdict("c", metrics, "").status is INCONCLUSIVE


def test_statuses_are_written_as_their_names():
    assert [str(status) for status in Status] == ["PASS", "FAIL", "INCONCLUSIVE", "SKIPPED", "ERROR"]
