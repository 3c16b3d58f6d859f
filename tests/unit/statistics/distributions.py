"""Random distributions that the tests of this folder share."""

import numpy as np

from pytest_llmopt.core.logprobs import TopLogprobs


def log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def pair(seed, tokens=20, vocab_size=30, noise=0.3):
    """Log-probabilities of a reference and of a candidate near it, `[tokens, vocabulary]`, and the tokens there."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((tokens, vocab_size))
    there = rng.integers(0, vocab_size, tokens)
    return there, log_softmax(logits), log_softmax(logits + noise * rng.standard_normal(logits.shape))


def sides(seed, k=None, **sizes):
    """The same as `TopLogprobs` of both sides, of the top k or of everything."""
    there, reference, candidate = pair(seed, **sizes)
    return TopLogprobs.from_logprobs(there, reference, k), TopLogprobs.from_logprobs(there, candidate, k)
