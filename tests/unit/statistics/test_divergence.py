"""The divergence is the textbook's, never overstated by a top-k, and never hides NaN or an impossible token."""

import dataclasses
import math

import numpy as np
import pytest
from distributions import pair, sides
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_llmopt.core.errors import PositionMismatchError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.statistics.divergence import kl_divergence, logprob_difference

SEEDS = st.integers(0, 10_000)


def two_tokens(p, q):
    with np.errstate(divide="ignore"):
        return tuple(TopLogprobs.from_logprobs(np.array([0]), np.log(np.array([[s, 1 - s]]))) for s in (p, q))


def test_divergence_of_two_tokens_worked_by_hand():
    assert kl_divergence(*two_tokens(0.5, 0.25))[0] == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))


def test_whole_vocabulary_gives_the_relative_entropy_of_scipy():
    there, log_p, log_q = pair(0)
    reference, candidate = sides(0)
    assert kl_divergence(reference, candidate) == pytest.approx(stats.entropy(np.exp(log_p), np.exp(log_q), axis=1))
    assert len(there) == len(reference)


@given(SEEDS, st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_a_top_k_never_overstates_the_divergence_and_more_tokens_never_lower_it(seed, fewer, more):
    fewer, more = sorted((fewer, more))
    exact = kl_divergence(*sides(seed))
    coarse, finer = kl_divergence(*sides(seed, fewer)), kl_divergence(*sides(seed, more))
    assert (coarse >= 0).all()
    assert (finer <= exact + 1e-12).all()
    # both ends know at least as much with the larger k on one side, so the partition is only refined
    assert (kl_divergence(sides(seed, fewer)[0], sides(seed, more)[1]) >= coarse - 1e-12).all()


@given(SEEDS, st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_a_top_k_gives_the_divergence_of_the_coarsened_distributions(seed, k):
    there, log_p, log_q = pair(seed)
    expected = []
    for position in range(len(there)):
        shared = set(np.argsort(-log_p[position])[:k]) | {there[position]}
        shared &= set(np.argsort(-log_q[position])[:k]) | {there[position]}
        p, q = np.exp(log_p[position]), np.exp(log_q[position])
        keep = sorted(shared)
        p, q = (np.append(side[keep], max(side.sum() - side[keep].sum(), 1e-6)) for side in (p, q))
        expected.append((p * np.log(p / q) - p + q).sum())
    assert kl_divergence(*sides(seed, k)) == pytest.approx(expected, abs=1e-12)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_numbering_of_the_vocabulary_does_not_matter(seed):
    there, log_p, log_q = pair(seed)
    order = np.random.default_rng(seed).permutation(log_p.shape[1])
    renamed = np.argsort(order)[there]
    moved = (TopLogprobs.from_logprobs(renamed, side[:, order], 7) for side in (log_p, log_q))
    assert kl_divergence(*moved) == pytest.approx(kl_divergence(*sides(seed, 7)), abs=1e-13)


def test_float32_rounding_of_the_same_distribution_is_no_divergence():
    there, log_p, _ = pair(1, vocab_size=2000)
    exact, rounded = (TopLogprobs.from_logprobs(there, log_p.astype(dtype)) for dtype in (np.float64, np.float32))
    assert kl_divergence(exact, rounded).max() < 1e-12
    assert kl_divergence(exact, exact).max() == 0


def test_a_tail_below_the_resolution_of_float32_is_no_divergence():
    reference, candidate = sides(0, vocab_size=30)
    reference = dataclasses.replace(reference, vocab_size=40)  # known tokens sum to one but for rounding
    candidate = dataclasses.replace(reference, top_logprobs=reference.top_logprobs - 1e-8)
    assert kl_divergence(reference, candidate).max() < 1e-14


def test_a_padded_output_head_is_compared_by_token():
    reference, candidate = sides(3)
    padded = np.pad(np.array([[0.0]]), 0)
    there, _, log_q = pair(3)
    padded = np.concatenate([log_q, np.full((len(log_q), 2), -40.0)], axis=1)
    wide = TopLogprobs.from_logprobs(there, padded)
    assert kl_divergence(reference, wide) == pytest.approx(kl_divergence(reference, candidate), abs=1e-6)
    assert kl_divergence(wide, reference) == pytest.approx(kl_divergence(candidate, reference), abs=1e-6)


def test_a_token_that_the_candidate_deems_impossible_gives_infinity():
    assert kl_divergence(*two_tokens(0.5, 1.0))[0] == math.inf
    assert kl_divergence(*two_tokens(1.0, 0.5))[0] == pytest.approx(math.log(2))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("field", ["token_logprobs", "top_logprobs"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_on_either_side_gives_nan_at_that_position_only(side, field, value):
    both = list(sides(0, 5))
    broken = getattr(both[side], field).copy()
    broken[3] = value
    both[side] = dataclasses.replace(both[side], **{field: broken})
    assert np.flatnonzero(np.isnan(kl_divergence(*both))).tolist() == [3]


def test_different_tokens_are_refused_with_the_first_position():
    reference, candidate = sides(0)
    other = dataclasses.replace(candidate, token_ids=np.where(np.arange(20) < 4, candidate.token_ids, 0))
    with pytest.raises(PositionMismatchError, match="first at"):
        kl_divergence(reference, other)
    with pytest.raises(PositionMismatchError, match="20 tokens, candidate 5"):
        logprob_difference(reference, candidate[:5])


def test_blocks_of_positions_give_what_one_piece_gives(monkeypatch):
    whole = kl_divergence(*sides(0))
    monkeypatch.setattr("pytest_llmopt.statistics.divergence._BLOCK_ELEMENTS", 100)
    assert (kl_divergence(*sides(0)) == whole).all()


def test_difference_is_candidate_minus_reference():
    there, log_p, log_q = pair(2)
    rows = np.arange(len(there))
    expected = log_q[rows, there] - log_p[rows, there]
    assert logprob_difference(*sides(2, 3)) == pytest.approx(expected)
