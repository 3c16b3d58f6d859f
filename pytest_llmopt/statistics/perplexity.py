"""Negative log-likelihood and perplexity of the tokens that were there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.core.verdict import Estimate
from pytest_llmopt.statistics.intervals import cluster_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import FloatArray, TopLogprobs


def nll(logprobs: TopLogprobs) -> FloatArray:
    """Negative log-likelihood of the token that was there, in nats: `[tokens]`."""
    return -logprobs.token_logprobs.astype(np.float64)


def perplexity(values: Sequence[FloatArray]) -> float:
    """Exp of the mean negative log-likelihood over all tokens of all prompts, in tokens. NaN where a value is NaN.

    Args:
        values: `nll` of each prompt, `[tokens]` each.

    Raises:
        EmptySampleError: there is no token.
    """
    if not sum(len(prompt) for prompt in values):
        msg = "perplexity of no tokens"
        raise EmptySampleError(msg)
    with np.errstate(over="ignore"):
        return float(np.exp(np.concatenate([np.asarray(prompt, np.float64) for prompt in values]).mean()))


def perplexity_ratio(differences: Sequence[FloatArray], confidence: float = 0.95) -> Estimate:
    """Candidate's perplexity divided by the reference's on the same tokens: 1 is equal, above 1 is worse.

    Exp of the mean difference of negative log-likelihoods, so the two sides are paired token by token; clustered by
    prompt on the log scale, see `cluster_mean`.

    Args:
        differences: `logprob_difference(reference, candidate)` of each prompt, `[tokens]` each.
        confidence: of the two-sided interval.

    Raises:
        EmptySampleError: there is no token.
    """
    loss = cluster_mean([-np.asarray(prompt, np.float64) for prompt in differences], confidence)
    return Estimate(_exp(loss.point), _exp(loss.low), _exp(loss.high), loss.n, loss.confidence)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
