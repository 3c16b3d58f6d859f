"""Agreement, flips and regret count what a greedy decoder would do, without tripping over ties."""

import dataclasses
import math

import numpy as np
import pytest
from distributions import pair, sides
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.statistics.agreement import flip_rate, regret, top1_agreement, top1_lead


def rows(*probabilities, there=None, k=None):
    with np.errstate(divide="ignore"):
        logprobs = np.log(np.array(probabilities))
    return TopLogprobs.from_logprobs(np.zeros(len(logprobs), int) if there is None else np.array(there), logprobs, k)


@given(st.integers(0, 10_000), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_agreement_is_equality_of_the_argmax_whatever_k(seed, k):
    _, log_p, log_q = pair(seed, noise=1.0)
    assert (top1_agreement(*sides(seed, k, noise=1.0)) == (log_p.argmax(1) == log_q.argmax(1))).all()


def test_either_of_two_equally_probable_tokens_agrees():
    tie, second = rows([0.4, 0.4, 0.2]), rows([0.3, 0.5, 0.2])
    assert top1_agreement(tie, second).all()
    assert top1_agreement(second, tie).all()
    assert not top1_agreement(rows([0.4, 0.39, 0.21]), second).any()


def test_nan_never_agrees():
    reference, candidate = sides(0)
    broken = dataclasses.replace(candidate, top_logprobs=np.full_like(candidate.top_logprobs, math.nan))
    assert not top1_agreement(reference, broken).any()
    assert flip_rate([reference], [broken]).point == 1


def test_regret_worked_by_hand():
    found = regret(rows([0.5, 0.3, 0.2, 0.0], [0.5, 0.3, 0.2, 0.0], [0.5, 0.3, 0.2, 0.0], there=[0, 2, 3], k=1))
    assert found == pytest.approx([0, math.log(2.5), math.inf])


def test_lead_of_a_single_known_token_is_a_lower_bound():
    assert top1_lead(rows([0.6, 0.3, 0.1])) == pytest.approx(math.log(2))
    assert top1_lead(rows([0.6, 0.3, 0.1], k=1)) == pytest.approx(math.log(1.5))
    assert top1_lead(rows([0.4, 0.35, 0.25], k=1)) == 0


def test_flips_count_only_where_the_reference_is_decided():
    reference = rows([0.5, 0.4, 0.1], [0.5, 0.4, 0.1], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1])
    candidate = rows([0.4, 0.5, 0.1], [0.5, 0.4, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1])
    assert flip_rate([reference], [candidate]).point == 0.5
    assert flip_rate([reference], [candidate], margin=0.5).point == 0.5
    assert flip_rate([reference[:3]], [candidate[:3]], margin=0.5).point == 0
    with pytest.raises(EmptySampleError, match="leads by more than 9"):
        flip_rate([reference], [candidate], margin=9)
