"""Warping gives the distribution that the sampler draws from, and calls nothing a violation that rounding explains."""

import dataclasses
import math

import numpy as np
import pytest
from distributions import log_softmax, pair
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.statistics.warping import IncompleteEvidenceError, warp

SETTINGS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.3, 0.7, 1.0, 1.5]),
    top_k=st.sampled_from([0, 1, 5, 30]),
    top_p=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.3]),
)


def by_the_book(logprobs, sampling):
    """The same one position and one filter at a time, on probabilities."""
    p = np.exp(log_softmax(logprobs / sampling.temperature))
    if sampling.top_k:
        p = np.where(p >= np.sort(p)[-min(sampling.top_k, len(p))], p, 0)
        p /= p.sum()
    if sampling.top_p < 1:
        order = np.argsort(-p)
        above = np.cumsum(p[order]) - p[order]
        p[order[(above >= sampling.top_p) & (np.arange(len(p)) > 0)]] = 0
        p /= p.sum()
    if sampling.min_p:
        p = np.where(p >= sampling.min_p * p.max(), p, 0)
        p /= p.sum()
    return p


def dense(warped):
    p = np.zeros((len(warped.logprobs), warped.logprobs.vocab_size))
    np.put_along_axis(p, warped.logprobs.top_ids, np.exp(warped.logprobs.top_logprobs), axis=1)
    return p


@given(st.integers(0, 10_000), SETTINGS)
@settings(max_examples=150, deadline=None)
def test_warped_probabilities_are_those_of_the_filters_one_by_one(seed, sampling):
    there, log_p, _ = pair(seed)
    warped = warp(TopLogprobs.from_logprobs(there, log_p), sampling)
    expected = np.array([by_the_book(row, sampling) for row in log_p])
    assert dense(warped) == pytest.approx(expected, abs=1e-12)
    drawn = expected[np.arange(len(there)), there]
    assert np.exp(warped.logprobs.token_logprobs) == pytest.approx(drawn, abs=1e-12)
    assert (warped.violations == (drawn == 0)).all()
    assert not warped.boundary.any()


@given(st.integers(0, 10_000), SETTINGS)
@settings(max_examples=60, deadline=None)
def test_a_top_k_either_gives_the_same_or_says_that_it_cannot(seed, sampling):
    there, log_p, _ = pair(seed)
    try:
        warped = warp(TopLogprobs.from_logprobs(there, log_p, 12), sampling)
    except IncompleteEvidenceError:
        return
    expected = np.array([by_the_book(row, sampling) for row in log_p])
    known = np.take_along_axis(expected, warped.logprobs.top_ids, axis=1)
    assert np.exp(warped.logprobs.top_logprobs) == pytest.approx(known, abs=2e-4)


def test_transformers_warps_alike():
    torch = pytest.importorskip("torch")
    generation = pytest.importorskip("transformers.generation.logits_process")
    there, log_p, _ = pair(0, tokens=50)
    for sampling in (SamplingParams(temperature=0.7, top_k=9, top_p=0.8, min_p=0.1), SamplingParams(temperature=1.3)):
        scores = generation.TemperatureLogitsWarper(sampling.temperature)(None, torch.tensor(log_p))
        if sampling.top_k:
            scores = generation.TopKLogitsWarper(sampling.top_k)(None, scores)
            scores = generation.TopPLogitsWarper(sampling.top_p)(None, scores)
            scores = generation.MinPLogitsWarper(sampling.min_p)(None, scores)
        warped = warp(TopLogprobs.from_logprobs(there, log_p), sampling)
        assert dense(warped) == pytest.approx(scores.softmax(-1).numpy(), abs=1e-12)


def rows(*probabilities, there, k=None):
    return TopLogprobs.from_logprobs(np.array(there), np.log(np.array(probabilities)), k)


def test_tokens_that_equal_the_kth_all_stay():
    warped = warp(rows([0.4, 0.2, 0.2, 0.2], there=[3]), SamplingParams(temperature=1, top_k=2))
    assert warped.support.all()
    assert not warped.violations.any()


def test_which_of_the_tokens_that_equal_the_kth_another_rounding_would_keep_is_open():
    sampling = SamplingParams(temperature=1, top_k=2)
    warped = warp(rows([0.4, 0.2, 0.2, 0.2], [0.4, 0.3, 0.2, 0.1], there=[3, 0]), sampling, tie_margin=0.01)
    assert warped.boundary.tolist() == [[False, True, True, True], [False] * 4]
    assert warped.support.tolist() == [[True] * 4, [True, True, False, False]]


def test_a_near_tie_at_the_boundary_is_no_violation_and_a_clear_loser_is():
    logprobs = rows([0.5, 0.26, 0.2399, 0.0001], [0.5, 0.26, 0.2399, 0.0001], there=[2, 3])
    sampling = SamplingParams(temperature=1, top_k=2)
    assert warp(logprobs, sampling).violations.tolist() == [True, True]
    lenient = warp(logprobs, sampling, tie_margin=0.1)
    assert lenient.violations.tolist() == [False, True]
    assert lenient.boundary.tolist() == [[False, True, True, False]] * 2


def test_the_tie_margin_is_before_the_temperature():
    logprobs = rows([0.5, 0.26, 0.2399, 0.0001], there=[2])
    sampling = SamplingParams(temperature=0.1, top_k=2)  # the gap of 0.08 nats becomes 0.8
    assert not warp(logprobs, sampling, tie_margin=0.1).violations.any()
    assert warp(logprobs, sampling, tie_margin=0.05).violations.any()


def test_a_token_that_rounding_moves_across_top_p_is_at_the_boundary():
    logprobs = rows([0.6, 0.3 - 1e-9, 0.1 - 1e-9, 2e-9], there=[2])
    warped = warp(logprobs, SamplingParams(temperature=1, top_p=0.9), tie_margin=1e-6)
    assert warped.boundary.tolist() == [[False, False, True, False]]
    assert not warped.violations.any()
    assert warp(logprobs, SamplingParams(temperature=1, top_p=0.8), tie_margin=1e-6).violations.all()


def test_an_unknown_token_is_a_violation_unless_it_ties_with_the_last_known():
    near, far = (
        TopLogprobs(np.array([9]), np.log([p]), np.array([[0, 1]]), np.log([[0.6, 0.2]]), 20) for p in (0.199, 0.01)
    )
    sampling = SamplingParams(temperature=1, top_k=2)
    assert not warp(near, sampling, tie_margin=0.1).violations.any()
    assert warp(far, sampling, tie_margin=0.1).violations.all()
    assert not warp(far, SamplingParams(temperature=1)).violations.any()  # the tail can be drawn


def test_what_the_known_tokens_do_not_determine_is_refused():
    known = rows([0.4, 0.3, 0.2, 0.1], there=[0], k=2)
    for sampling in (
        SamplingParams(temperature=0.7),
        SamplingParams(temperature=1.5),
        SamplingParams(temperature=1, top_k=3),
        SamplingParams(temperature=1, top_p=0.9),
        SamplingParams(temperature=1, min_p=0.1),
    ):
        with pytest.raises(IncompleteEvidenceError, match="known tokens"):
            warp(known, sampling)
    assert np.exp(warp(known, SamplingParams(temperature=2, top_k=2)).logprobs.top_logprobs).sum() == pytest.approx(1)


def test_greedy_draws_nothing():
    with pytest.raises(OptionError, match="temperature 0"):
        warp(rows([0.5, 0.5], there=[0]), SamplingParams())


def test_nan_is_a_violation():
    logprobs = rows([0.5, 0.5], [0.5, 0.5], there=[0, 0])
    broken = np.where(np.array([[True], [False]]), math.nan, logprobs.top_logprobs)
    warped = warp(dataclasses.replace(logprobs, top_logprobs=broken), SamplingParams(temperature=0.5, top_k=1))
    assert warped.violations[0]
    assert np.isnan(warped.logprobs.top_logprobs[0]).all()
