"""An assertion keeps a record of every verdict, and fails the test unless it is a PASS."""

import dataclasses
import itertools
import warnings

import pytest
from sides import FakeEngine, Letters, fake_side

from pytest_llmopt.assertions import assertion
from pytest_llmopt.core.errors import OptionError, VerdictError
from pytest_llmopt.core.side import Context, Side
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
from pytest_llmopt.optimizations.decoding.static_cache import StaticCache

ESTIMATES = {
    Status.PASS: Estimate.exact(1.0),
    Status.FAIL: Estimate.exact(3.0),
    Status.INCONCLUSIVE: Estimate(2.0, 1.0, 3.0, 9),
}


CANDIDATE = Variant("m", (Applied("decoding.static_cache", StaticCache()),))


def check(candidate, reference, *, status=Status.PASS, seed=0):
    """A verdict on nothing at all."""
    metrics = {"value": Metric(ESTIMATES[status], Tolerance(at_most=2))}
    return Verdict("check", metrics, f"seed {seed}")


@pytest.fixture
def kept():
    return []


@pytest.fixture
def sides(kept):
    """A function that gives the two sides, with a context that keeps verdicts."""

    def sides(**context):
        clock = itertools.count()
        context = Context(
            record=lambda *record: kept.append(record), engine_seconds=lambda: 1e-9 * next(clock), **context
        )
        roles = {"candidate": CANDIDATE, "reference": CANDIDATE.unoptimized()}
        return [Side(role, FakeEngine(variant=variant), Letters(), context) for role, variant in roles.items()]

    return sides


def test_a_pass_gives_the_verdict(sides):
    assert assertion("check", check)(*sides()).status is Status.PASS


def test_a_fail_raises_with_the_diagnosis(sides):
    with pytest.raises(
        VerdictError, match=r"^check FAIL: value 3, at most 2\n  static_cache on transformers, m\n  value +3, n=1; at m"
    ):
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

    with pytest.raises(VerdictError, match="plain FAIL"):
        assertion("plain", plain)(fake_side(), fake_side(role="reference"))


def test_an_engine_alone_is_no_side(sides):
    with pytest.raises(OptionError, match="is no side of a comparison"):
        assertion("check", check)(FakeEngine(), sides()[1])


def test_an_error_inside_a_check_is_no_verdict(sides, kept):
    def broken(candidate, reference):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        assertion("broken", broken)(*sides())
    assert kept == []


def test_an_error_inside_a_check_is_kept_with_the_check_and_the_exception(sides):
    refused, raised = [], []

    def broken(candidate, reference):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as found:
        assertion("broken", broken)(*sides(refuse=lambda *given: refused.append(given), raised=raised.append))
    assert [given[:2] for given in refused] == [("broken", found.value)]
    assert raised == [found.value]


def swapped(candidate, reference):
    return reference, candidate


def doubled(candidate, reference):
    return candidate, candidate


def same_engine(candidate, reference):
    return candidate, dataclasses.replace(reference, engine=candidate.engine)


def missing(candidate, _reference):
    return candidate, None


@pytest.mark.parametrize(
    ("arranged", "words"),
    [
        (swapped, "the reference stands in the place of the candidate"),
        (doubled, "the candidate stands in the place of the reference"),
        (same_engine, "both sides are static_cache of m, and nothing differs from itself"),
        (missing, "reference=None is no side"),
    ],
)
def test_the_wrong_sides_are_refused_and_never_recorded_as_a_verdict(sides, kept, arranged, words):
    with pytest.raises(OptionError, match=words):
        assertion("check", check)(*arranged(*sides()))
    assert kept == []


def test_a_check_that_needs_no_reference_takes_none_and_a_plain_model(sides, kept):
    def alone(candidate, reference: "object | None"):
        return check(candidate, reference)

    plain = dataclasses.replace(sides()[0], engine=FakeEngine())
    for reference in (None, fake_side(role="reference")):
        assert assertion("alone", alone)(plain, reference).status is Status.PASS
    assert len(kept) == 2
