"""Perplexity and its ratio are the exponentials of the means that they are defined by."""

import math

import numpy as np
import pytest
from distributions import pair, sides

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.statistics.divergence import logprob_difference
from pytest_llmopt.statistics.perplexity import nll, perplexity, perplexity_ratio


def test_uniform_distribution_has_the_perplexity_of_its_size():
    assert perplexity([np.full(5, math.log(16)), np.full(3, math.log(16))]) == pytest.approx(16)


def test_nll_is_of_the_token_that_was_there():
    there, log_p, _ = pair(0)
    assert nll(sides(0, 2)[0]) == pytest.approx(-log_p[np.arange(len(there)), there])


def test_ratio_is_the_quotient_of_both_perplexities_and_above_one_is_worse():
    prompts = [sides(seed) for seed in range(8)]
    quotient = perplexity([nll(candidate) for _, candidate in prompts]) / perplexity([nll(side) for side, _ in prompts])
    ratio = perplexity_ratio([logprob_difference(*prompt) for prompt in prompts])
    assert ratio.point == pytest.approx(quotient)
    assert ratio.low < ratio.point < ratio.high
    assert perplexity_ratio([np.full(4, -0.1)] * 3).point == pytest.approx(math.exp(0.1))


def test_no_tokens_and_nan_are_never_a_number():
    with pytest.raises(EmptySampleError):
        perplexity([])
    with pytest.raises(EmptySampleError):
        perplexity_ratio([np.empty(0)])
    assert math.isnan(perplexity([np.array([1.0, math.nan])]))
    assert perplexity([np.array([1e5])]) == math.inf
    assert math.isnan(perplexity_ratio([np.array([1.0, math.nan])]).high)
