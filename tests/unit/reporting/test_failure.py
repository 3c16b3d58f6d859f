"""A failed verdict reads like a diagnosis: what was promised, the evidence against the limit, the worst place."""

import math

import pytest

from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance, Verdict
from pytest_llmopt.optimizations.decoding.static_cache import StaticCache
from pytest_llmopt.reporting.failure import describe, explain, show

CANDIDATE = Variant("tiny-llama", (Applied("decoding.static_cache", StaticCache(compile=True)),))
PASSED = Metric(Estimate.exact(1.0, 8), Tolerance(at_most=2))
FAILED = Metric(Estimate(0.0231, 0.0207, 0.0256, 512, 0.95), Tolerance(at_most=0.02), "nats/token")
UNDECIDED = Metric(Estimate(0.9, 0.8, 1.0, 12, 0.95), Tolerance(at_least=0.85), "share")
TOLD = Metric(Estimate.exact(5))


def explained(*metrics, diagnosis=(), reference=None):
    verdict = Verdict("accurate", {f"metric_{place}": item for place, item in enumerate(metrics)}, "", diagnosis)
    return explain(verdict, CANDIDATE, reference or CANDIDATE.unoptimized()).splitlines()


def test_the_headline_names_the_check_the_verdict_the_variant_the_engine_and_the_model():
    assert explained(FAILED)[:2] == [
        "accurate FAIL: metric_0 0.0231 nats/token, at most 0.02 nats/token",
        "  static_cache(compile=True) on transformers, tiny-llama",
    ]


def test_the_headline_says_how_many_more_failed_and_that_nothing_could_be_judged():
    assert explained(FAILED, UNDECIDED, PASSED)[0].endswith("at most 0.02 nats/token, and 1 more")
    assert explained(TOLD)[0] == "accurate INCONCLUSIVE: nothing could be judged"


def test_nothing_in_the_message_is_obeyed_by_a_terminal():
    text = "\n".join(explained(FAILED, diagnosis=("prompt \x1b[31m\x07 says \u202e\ud800",)))
    assert "prompt \\x1b[31m\\x07 says \\u202e\\ud800" in text


@pytest.mark.parametrize("unit", ["share", "", "bytes", "nats"])
def test_no_number_is_longer_than_a_line(unit):
    assert all(len(show(10.0**exponent, unit)) < 20 for exponent in (3, 9, 12, 190, 300))


def test_the_headline_says_when_the_sample_cannot_decide():
    assert (
        explained(UNDECIDED)[0] == "accurate INCONCLUSIVE: metric_0 90.00%, at least 85.00%; the sample cannot decide"
    )


def test_the_headline_names_a_reference_that_is_not_the_plain_model():
    reference = Variant("tiny-llama", (Applied("decoding.static_cache", StaticCache()),))
    assert explained(FAILED, reference=reference)[1].endswith("tiny-llama, against static_cache")


@pytest.mark.parametrize("change", [{"dtype": "float64"}, {"model": "tiny-qwen"}])
def test_the_headline_says_how_a_plain_reference_differs(change):
    reference = Variant(**({"model": "tiny-llama"} | change))
    assert next(iter(change.values())) in explained(FAILED, reference=reference)[1].partition("against")[2]


def test_failed_metrics_come_first_and_unjudged_ones_not_at_all():
    lines = explained(PASSED, TOLD, UNDECIDED, FAILED, PASSED)
    assert [line.split()[0] for line in lines[2:]] == ["metric_3", "metric_2", "metric_0", "metric_4"]


def test_the_diagnosis_follows_the_metrics():
    assert explained(FAILED, diagnosis=("worst prompt 87", "  ' return' 0.81"))[3:] == [
        "  worst prompt 87",
        "    ' return' 0.81",
    ]


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (FAILED, "0.0231 nats/token  95% CI [0.0207, 0.0256], n=512; at most 0.02 nats/token: FAIL"),
        (UNDECIDED, "90.00%  95% CI [80.00%, 100.00%]"),
        (UNDECIDED, "n=12; at least 85.00%: INCONCLUSIVE"),
        (PASSED, "1, n=8; at most 2: PASS"),
        (TOLD, "5, n=1"),
        (Metric(Estimate.exact(math.nan), Tolerance(at_most=1)), "NaN, n=1; at most 1: FAIL"),
        (Metric(Estimate.exact(3 * 2**30), Tolerance(at_most=2**30), "bytes"), "3 GiB, n=1; at most 1 GiB: FAIL"),
    ],
)
def test_a_metric_is_described_by_value_interval_sample_and_limit(metric, text):
    assert text in describe(metric)


@pytest.mark.parametrize(
    ("confidence", "text"),
    [
        (0.95, "95% CI ["),
        (0.9875, "98.75% CI ["),
        (1 - 0.05 / 12, "99.58% CI ["),
        (1 - 2e-6, "99.9998% CI ["),
        (None, "1  [0.5, 2]"),
    ],
)
def test_an_interval_is_said_to_have_what_it_has_and_never_all(confidence, text):
    assert text in describe(Metric(Estimate(1, 0.5, 2, 8, confidence), Tolerance(at_most=3)))


def test_a_value_below_a_two_sided_range_is_shown_with_the_limit_that_it_broke():
    assert "at least 1" in describe(Metric(Estimate.exact(0.5), Tolerance(1, 2)))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "", "0"),
        (3.0, "", "3"),
        (12345.0, "positions", "12,345 positions"),
        (0.02314, "nats", "0.0231 nats"),
        (1.5e-7, "nats", "1.5e-07 nats"),
        (-0.5, "", "-0.5"),
        (1e12, "", "1e+12"),
        (0.98765, "share", "98.77%"),
        (1536, "bytes", "1.5 KiB"),
        (math.nan, "bytes", "NaN"),
        (math.inf, "nats", "inf nats"),
        (-math.inf, "", "-inf"),
    ],
)
def test_numbers_are_shown_for_a_person(value, unit, text):
    assert show(value, unit) == text
