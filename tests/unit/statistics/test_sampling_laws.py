"""Tokens drawn by a known fault are explained best by that fault."""

import numpy as np
import pytest

from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.statistics.sampling_laws import likeliest_laws

TOKENS, VOCABULARY = 3000, 20


def draw(law, generator):
    return (law.cumsum(axis=1) < generator.random((len(law), 1))).sum(axis=1).clip(max=law.shape[1] - 1)


def softmax(scores):
    return np.exp(scores - np.logaddexp.reduce(scores, axis=1)[:, None])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("draft", "as if all of the proposals"),
        ("half", "as if about 50% of the proposals"),
        ("residual", "instead of the residual"),
        ("temperature", "a temperature of about 0.9 instead of 1"),
        ("argmax", "its most probable token but is verified"),
    ],
)
def test_each_fault_is_named(fault, words):
    generator = np.random.default_rng(1)
    scores = 2 * generator.standard_normal((TOKENS, VOCABULARY))
    p = softmax(scores)
    q = softmax(scores + generator.standard_normal((TOKENS, VOCABULARY)))
    low = np.minimum(p, q)
    rejected = 1 - low.sum(axis=1, keepdims=True)
    best = np.eye(VOCABULARY)[q.argmax(axis=1)]
    kept = np.minimum(1, p / q)[best.astype(bool)][:, None]
    law = {
        "draft": q,
        "half": 0.5 * p + 0.5 * q,
        "residual": low + rejected * p,
        "temperature": softmax(scores / 0.9),
        "argmax": kept * best + (1 - kept) * (p - low) / rejected,
    }[fault]
    tokens = draw(law, generator)
    target, draft = (TopLogprobs.from_logprobs(tokens, np.log(side)) for side in (p, q))
    laws = likeliest_laws(target, draft, np.ones(TOKENS, bool), 1.0)
    assert words in laws[0].cause
    assert laws[0].gain > 20


def test_no_fault_explains_lossless_tokens():
    generator = np.random.default_rng(2)
    p = softmax(2 * generator.standard_normal((TOKENS, VOCABULARY)))
    target = TopLogprobs.from_logprobs(draw(p, generator), np.log(p))
    assert likeliest_laws(target, None, np.zeros(TOKENS, bool), 1.0)[0].gain < 5
