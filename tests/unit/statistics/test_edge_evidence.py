"""Tokens tied at a filter's edge are counted: who treats them as the filter does is fair, who does not is seen."""

import math

import numpy as np
import pytest
from distributions import log_softmax

from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.statistics.edge_evidence import edge_evidence
from pytest_llmopt.statistics.warping import warp

VOCABULARY, TOP_K, MARGIN = 24, 8, 0.002
FILTERS = {
    "top_k": SamplingParams(temperature=0.8, top_k=TOP_K),
    "top_p": SamplingParams(temperature=1.0, top_p=0.8),
    "min_p": SamplingParams(temperature=1.0, min_p=math.exp(-1.5)),
}


def logits_of(seed, tokens=1500, grid=0.5):
    """Coarse logits, so that ties are frequent, `[tokens, vocabulary]`."""
    logits = np.random.default_rng(seed).standard_normal((tokens, VOCABULARY))
    return np.round(logits / grid) * grid


def law(logits, sampling, drops=None):
    """What is drawn from `[tokens, vocabulary]`, with the rule of a planted bug about which tied tokens stay."""
    own = warp(TopLogprobs.from_logprobs(np.zeros(len(logits), int), log_softmax(logits)), sampling).logprobs
    p = np.zeros(logits.shape)
    np.put_along_axis(p, own.top_ids, np.exp(own.top_logprobs), axis=1)
    if drops is not None:
        p[drops(logits)] = 0
        p /= p.sum(axis=1, keepdims=True)
    return p


def evidence(seed, sampling, p, logits, acted_on=None):
    """Of tokens drawn from `p`, where the reference rounds the same logits otherwise."""
    rng = np.random.default_rng(seed + 1000)
    tokens = (p.cumsum(axis=1) > rng.random((len(p), 1))).argmax(axis=1)
    rounded = log_softmax(logits + 2e-4 * rng.standard_normal(logits.shape))
    target = warp(TopLogprobs.from_logprobs(tokens, rounded), sampling, tie_margin=MARGIN)
    own = TopLogprobs.from_logprobs(tokens, log_softmax(logits if acted_on is None else acted_on))
    return edge_evidence([target], [own], sampling)


def no_more_than_k(logits):
    """Those of a sort by score that come after the k-th."""
    order = np.argsort(-logits, axis=1, kind="stable")
    drop = np.zeros(logits.shape, bool)
    np.put_along_axis(drop, order[:, TOP_K:], values=True, axis=1)
    return drop


def all_that_are_tied(logits):
    """Whatever equals the k-th but is not the best, as a comparison that is strict drops."""
    return (logits <= np.sort(logits, axis=1)[:, -TOP_K][:, None]) & (logits < logits.max(axis=1, keepdims=True))


@pytest.mark.parametrize("sampling", FILTERS.values(), ids=FILTERS)
def test_ties_that_the_filter_itself_decides_are_fair(sampling):
    peaks = []
    for seed in range(60):
        logits = logits_of(seed, tokens=200)
        found = evidence(seed, sampling, law(logits, sampling), logits)
        peaks.append(found.peak)
        assert found.outside == 0
        assert found.positions > 20 or sampling.top_p < 1
    # Ville: above ln 20 with probability 1/20 at most; 60 runs stay below 8 with probability 0.99.
    assert sum(peak > math.log(20) for peak in peaks) < 8
    assert max(peaks) < math.log(1e4)


@pytest.mark.parametrize("drops", [no_more_than_k, all_that_are_tied])
def test_dropping_tied_tokens_that_should_stay_is_seen(drops):
    logits = logits_of(0)
    found = evidence(0, FILTERS["top_k"], law(logits, FILTERS["top_k"], drops), logits)
    assert found.observed < found.expected
    assert found.peak > math.log(1e4)


def test_drawing_a_token_that_ties_with_the_last_but_is_left_out_is_seen_after_a_few():
    logits = logits_of(0)
    tie_breaking = logits + 1e-3 * np.linspace(0, 1, VOCABULARY)  # apart for the sampler, tied for the reference
    wrong = law(logits, FILTERS["top_k"])
    found = evidence(0, FILTERS["top_k"], wrong, logits, acted_on=tie_breaking)
    assert found.outside > 10
    assert found.peak > math.log(1e4)
    right = evidence(0, FILTERS["top_k"], law(tie_breaking, FILTERS["top_k"]), logits, acted_on=tie_breaking)
    assert (right.outside, right.peak > math.log(20)) == (0, False)


def test_where_nothing_is_tied_nothing_is_bet():
    logits = np.tile(np.arange(VOCABULARY, dtype=float), (50, 1))
    found = evidence(0, FILTERS["top_k"], law(logits, FILTERS["top_k"]), logits)
    assert (found.positions, found.observed, found.peak) == (0, 0, 0.0)
    assert found.log_wealth.tolist() == [0.0] * 50


@pytest.mark.parametrize("dropped", [0, 1])
def test_one_of_two_tokens_that_tie_never_comes_after_the_same_text(dropped):
    sampling, rng = SamplingParams(temperature=1.0, top_k=2), np.random.default_rng(0)
    log_p = log_softmax(np.array([[1.0, 1.0, 1.5, -1.0]]))
    right = law(log_p, sampling)
    wrong = np.where(np.arange(4) == dropped, 0, right)
    peaks = []
    for p in (right, wrong / wrong.sum()):
        tokens = rng.choice(4, size=60, p=p[0])
        once = [TopLogprobs.from_logprobs(tokens[[place]], log_p) for place in range(60)]
        own = [warp(item, sampling, tie_margin=MARGIN) for item in once]
        peaks.append([edge_evidence(own, once, sampling, given).peak for given in ([0] * 60, None)])
    (fair, fair_apart), (found, apart) = peaks
    assert max(fair, fair_apart) < math.log(20)
    assert found > math.log(1e4)
    assert found > apart


def test_nan_in_what_the_sampler_reports_is_no_pass():
    log_p = log_softmax(logits_of(0, tokens=50))
    target = warp(TopLogprobs.from_logprobs(log_p.argmax(axis=1), log_p), FILTERS["top_k"], tie_margin=MARGIN)
    log_p[:, 0] = math.nan
    own = TopLogprobs.from_logprobs(target.logprobs.token_ids, log_p)
    assert math.isnan(edge_evidence([target], [own], FILTERS["top_k"]).peak)
