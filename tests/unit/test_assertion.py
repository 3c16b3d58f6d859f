"""An assertion keeps a record of every verdict, and fails the test unless it is a PASS."""

import warnings
from types import SimpleNamespace

import pytest

from pytest_llmopt.assertions import assertion
from pytest_llmopt.core.context import Context
from pytest_llmopt.core.errors import VerdictError
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
from pytest_llmopt.runtime.side import Side, Stopwatch

ESTIMATES = {
    Status.PASS: Estimate.exact(1.0),
    Status.FAIL: Estimate.exact(3.0),
    Status.INCONCLUSIVE: Estimate(2.0, 1.0, 3.0, 9),
}


def check(candidate, reference, *, status=Status.PASS, seed=0):
    """A verdict on nothing at all."""
    with candidate.stopwatch.running():
        metrics = {"value": Metric(ESTIMATES[status], Tolerance(at_most=2))}
    return Verdict("check", metrics, f"seed {seed}")


@pytest.fixture
def kept():
    return []


@pytest.fixture
def sides(kept):
    """A function that gives the two sides, with a context that keeps verdicts."""

    def sides(**context):
        context = Context(record=lambda *record: kept.append(record), **context)
        stopwatch, engine = Stopwatch(), SimpleNamespace()
        return [Side(role, Variant("m"), engine, stopwatch, context) for role in ("candidate", "reference")]

    return sides


def test_a_pass_gives_the_verdict(sides):
    assert assertion("check", check)(*sides()).status is Status.PASS


def test_a_fail_raises_with_the_diagnosis(sides):
    with pytest.raises(VerdictError, match=r"^check FAIL: unoptimized on transformers, m\n  value +3, n=1; at most 2"):
        assertion("check", check)(*sides(), status=Status.FAIL)


def test_an_inconclusive_verdict_fails_unless_it_shall_only_warn(sides):
    with pytest.raises(VerdictError, match="INCONCLUSIVE"):
        assertion("check", check)(*sides(), status=Status.INCONCLUSIVE)
    with pytest.warns(UserWarning, match="INCONCLUSIVE"):
        verdict = assertion("check", check)(*sides(warn_if_inconclusive=True), status=Status.INCONCLUSIVE)
    assert verdict.status is Status.INCONCLUSIVE


def test_a_fail_fails_also_where_inconclusive_warns(sides):
    with pytest.raises(VerdictError):
        assertion("check", check)(*sides(warn_if_inconclusive=True), status=Status.FAIL)


def test_a_pass_does_not_warn(sides):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assertion("check", check)(*sides(warn_if_inconclusive=True))


@pytest.mark.parametrize("status", ESTIMATES)
def test_every_verdict_is_recorded_once_with_its_seconds(sides, kept, status):
    try:
        assertion("check", check)(*sides(), status=status)
    except VerdictError:
        assert status is not Status.PASS
    ((verdict, seconds, engine_seconds),) = kept
    assert verdict.status is status
    assert seconds >= engine_seconds > 0


def test_the_seed_is_that_of_the_session_unless_given(sides):
    assert assertion("check", check)(*sides(seed=7)).evidence == "seed 7"
    assert assertion("check", check)(*sides(seed=7), seed=3).evidence == "seed 3"


def test_a_check_without_randomness_gets_no_seed(sides):
    def fixed(candidate, reference):
        return check(candidate, reference)

    assert assertion("fixed", fixed)(*sides(seed=7)).evidence == "seed 0"


def test_engines_without_a_context_can_be_compared_by_hand(sides):
    def plain(candidate, reference):
        return Verdict("plain", {"value": Metric(ESTIMATES[Status.FAIL], Tolerance(at_most=2))}, "")

    engine = SimpleNamespace(variant=Variant("m"))
    with pytest.raises(VerdictError, match="plain FAIL"):
        assertion("plain", plain)(engine, engine)


def test_an_error_inside_a_check_is_no_verdict(sides, kept):
    def broken(candidate, reference):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        assertion("broken", broken)(*sides())
    assert kept == []
