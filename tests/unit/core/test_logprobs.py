"""`TopLogprobs` says the same about full logits and about a top-k, and never makes up a value."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.core.logprobs import TopLogprobs

PROBABILITIES = np.array([[0.5, 0.3, 0.2, 0.0], [0.1, 0.2, 0.6, 0.1]])
with np.errstate(divide="ignore"):
    LOGPROBS = np.log(PROBABILITIES)
THERE = np.array([1, 2])


def distribution(seed, tokens, vocab_size):
    """Log-probabilities `[tokens, vocabulary]` without ties, and the tokens that were there."""
    generator = np.random.default_rng(seed)
    logits = 3 * generator.standard_normal((tokens, vocab_size))
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return generator.integers(0, vocab_size, tokens), logprobs


SIZES = {
    "seed": st.integers(0, 2**32 - 1),
    "tokens": st.integers(0, 6),
    "vocab_size": st.integers(1, 9),
    "k": st.integers(1, 9),
}


@settings(derandomize=True, deadline=None)
@given(**SIZES)
def test_lookup_gives_the_dense_value_inside_the_top_k_and_nan_outside(seed, tokens, vocab_size, k):
    token_ids, dense = distribution(seed, tokens, vocab_size)
    evidence = TopLogprobs.from_logprobs(token_ids, dense, k)
    ids = np.random.default_rng(seed + 1).integers(0, vocab_size, (tokens, 5))
    found = evidence.lookup(ids)
    assert found.shape == ids.shape
    for row in range(tokens):
        kept = set(np.argsort(-dense[row])[:k])
        for column, token in enumerate(ids[row]):
            expected = dense[row, token] if token in kept else np.nan
            np.testing.assert_equal(found[row, column], expected)


@settings(derandomize=True, deadline=None)
@given(**SIZES)
def test_from_logprobs_keeps_the_k_most_probable_and_the_tail_holds_the_rest(seed, tokens, vocab_size, k):
    token_ids, dense = distribution(seed, tokens, vocab_size)
    evidence = TopLogprobs.from_logprobs(token_ids, dense, k)
    assert (len(evidence), evidence.k, evidence.vocab_size) == (tokens, min(k, vocab_size), vocab_size)
    assert evidence.is_complete == (k >= vocab_size)
    np.testing.assert_array_equal(evidence.top_logprobs, -np.sort(-dense, axis=1)[:, :k])
    np.testing.assert_array_equal(evidence.token_logprobs, dense[np.arange(tokens), token_ids])
    np.testing.assert_allclose(evidence.tail_mass, np.exp(-np.sort(-dense, axis=1)[:, k:]).sum(axis=1), atol=1e-12)


def test_a_worked_case():
    evidence = TopLogprobs.from_logprobs(THERE, LOGPROBS, k=2)
    assert evidence.top_ids.tolist() == [[0, 1], [2, 1]]
    np.testing.assert_allclose(evidence.tail_mass, [0.2, 0.2])
    np.testing.assert_allclose(np.exp(evidence.token_logprobs), [0.3, 0.6])


def test_keeping_all_is_complete_with_an_empty_tail_even_where_sums_are_rough():
    evidence = TopLogprobs.from_logprobs(THERE, LOGPROBS.astype(np.float32))
    assert evidence.is_complete
    assert evidence.tail_mass.tolist() == [0.0, 0.0]
    assert evidence.lookup(np.array([[3], [3]]))[0, 0] == -np.inf


def test_tail_mass_is_a_probability_even_where_rounding_makes_it_negative():
    top = np.array([[0.0, -20.0]])
    evidence = TopLogprobs(np.array([0]), np.array([0.0]), np.array([[0, 1]]), top, vocab_size=9)
    assert evidence.tail_mass.tolist() == [0.0]


@pytest.mark.parametrize("outside", [4, -1])
def test_lookup_of_an_id_outside_the_vocabulary_is_never_the_value_of_another_position(outside):
    evidence = TopLogprobs.from_logprobs(np.array([1, 2]), LOGPROBS[:, [3, 1, 2, 0]], k=3)
    assert np.isnan(evidence.lookup(np.full((2, 1), outside))).all()


@pytest.mark.parametrize(
    "change",
    [
        {"token_ids": np.zeros(3, int)},
        {"token_logprobs": np.zeros((2, 1))},
        {"top_logprobs": np.zeros((2, 3))},
        {"top_ids": np.zeros((3, 2), int)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_arrays_whose_shapes_do_not_belong_together_are_refused(change):
    fitting = {
        "token_ids": np.zeros(2, int),
        "token_logprobs": np.zeros(2),
        "top_ids": np.zeros((2, 2), int),
        "top_logprobs": np.zeros((2, 2)),
        "vocab_size": 5,
    }
    TopLogprobs(**fitting)
    with pytest.raises(ValueError, match="do not fit"):
        TopLogprobs(**(fitting | change))


@pytest.mark.parametrize("positions", [slice(1, None), np.array([False, True])], ids=["slice", "mask"])
def test_some_positions_are_the_same_evidence_about_fewer_tokens(positions):
    part = TopLogprobs.from_logprobs(THERE, LOGPROBS, k=2)[positions]
    assert part.token_ids.tolist() == [2]
    assert part.top_ids.tolist() == [[2, 1]]
    assert part.vocab_size == 4
    assert len(part[:0]) == 0


def test_concatenation_undoes_slicing():
    whole = TopLogprobs.from_logprobs(THERE, LOGPROBS, k=3)
    again = TopLogprobs.concatenate([whole[:1], whole[1:1], whole[1:]])
    for name in ("token_ids", "token_logprobs", "top_ids", "top_logprobs"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    assert again.vocab_size == whole.vocab_size


def test_concatenating_nothing_raises():
    with pytest.raises(EmptySampleError):
        TopLogprobs.concatenate([])


@pytest.mark.parametrize(
    ("token", "top", "usable"),
    [
        (-1.0, [-0.5, -1.0], True),
        (-np.inf, [0.0, -np.inf], True),
        (np.nan, [-0.5, -1.0], False),
        (-1.0, [-0.5, np.nan], False),
        (-1.0, [np.nan, np.nan], False),
        (-1.0, [np.inf, -1.0], False),
        (-np.inf, [-np.inf, -np.inf], False),
    ],
)
def test_a_position_is_finite_where_it_holds_a_usable_distribution(token, top, usable):
    """An impossible token (-inf) is a fact; NaN, +inf or no possible token at all is a broken forward pass."""
    evidence = TopLogprobs(np.array([0]), np.array([token]), np.array([[0, 1]]), np.array([top]), vocab_size=2)
    assert evidence.is_finite.tolist() == [usable]
