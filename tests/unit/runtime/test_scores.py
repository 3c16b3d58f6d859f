"""What a reference has scored is not asked again, as long as there is room for it."""

import numpy as np

from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.runtime.side import Scores, Side


class Counting:
    """Says how often it was asked for which tokens."""

    def __init__(self, model="m"):
        self.variant = Variant(model)
        self.asked = []

    def score(self, continuations):
        self.asked += continuations
        return [one(item) for item in continuations]


def one(item):
    tokens = np.array(item.token_ids)
    logprobs = np.log(np.full((len(tokens), 16), 1 / 16))
    return TopLogprobs.from_logprobs(tokens, logprobs)


A, B, C = (Continuation((1, 2), (token, 5)) for token in (3, 4, 6))


def test_only_unknown_tokens_are_asked_for_and_the_order_is_kept():
    engine, scores = Counting(), Scores()
    scores.score(engine, [A])
    found = scores.score(engine, [B, A, B])
    assert engine.asked == [A, B]
    assert [item.token_ids[0] for item in found] == [4, 3, 4]


def test_another_model_is_another_question():
    first, second, scores = Counting("one"), Counting("other"), Scores()
    scores.score(first, [A])
    scores.score(second, [A])
    assert first.asked == second.asked == [A]


def test_the_least_recently_used_is_forgotten_when_there_is_no_room():
    engine = Counting()
    scores = Scores(limit_bytes=2 * one(A).nbytes)
    for item in (A, B, A, C, A):
        scores.score(engine, [item])
    assert engine.asked == [A, B, C]
    scores.score(engine, [B])
    assert engine.asked == [A, B, C, B]


def test_a_candidate_is_asked_every_time():
    engine = Counting()
    candidate = Side("candidate", engine.variant, engine)
    candidate.score([A])
    candidate.score([A])
    assert engine.asked == [A, A]
