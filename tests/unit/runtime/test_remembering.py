"""What a reference has scored is not asked again, as long as there is room for it."""

import numpy as np
import pytest
from sides import FakeEngine

from pytest_llmopt.core.errors import AnswerError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.requests import CountGraphs, Score
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.runtime.remembering import RememberingEngine, Scores


def one(item):
    tokens = np.array(item.token_ids)
    logprobs = np.log(np.full((len(tokens), 16), 1 / 16))
    return TopLogprobs.from_logprobs(tokens, logprobs)


A, B, C = (Continuation((1, 2), (token, 5)) for token in (3, 4, 6))


def counting(model="m"):
    functions = {Score: lambda request: tuple(map(one, request.continuations)), CountGraphs: lambda _request: 2}
    return FakeEngine(functions, Variant(model))


def scored(engine):
    return [item for request in engine.asked for item in request.continuations]


def test_only_unknown_tokens_are_asked_for_and_the_order_is_kept():
    engine = counting()
    remembering = RememberingEngine(engine, Scores())
    remembering.ask(Score((A,)))
    found = remembering.ask(Score((B, A, B)))
    assert scored(engine) == [A, B]
    assert [item.token_ids[0] for item in found] == [4, 3, 4]


def test_what_is_to_be_fresh_is_asked_every_time():
    engine = counting()
    remembering = RememberingEngine(engine, Scores())
    for _ in range(2):
        remembering.ask(Score((A,), fresh=True))
    assert scored(engine) == [A, A]


def test_another_model_is_another_question():
    scores = Scores()
    engines = [counting("one"), counting("other")]
    for engine in engines:
        RememberingEngine(engine, scores).ask(Score((A,)))
    assert [scored(engine) for engine in engines] == [[A], [A]]


def test_the_least_recently_used_is_forgotten_when_there_is_no_room():
    engine = counting()
    remembering = RememberingEngine(engine, Scores(limit_bytes=2 * one(A).nbytes))
    for item in (A, B, A, C, A):
        remembering.ask(Score((item,)))
    assert scored(engine) == [A, B, C]
    remembering.ask(Score((B,)))
    assert scored(engine) == [A, B, C, B]


def test_all_else_is_asked_of_the_engine():
    engine = counting()
    remembering = RememberingEngine(engine, Scores())
    assert [remembering.ask(CountGraphs()) for _ in range(2)] == [2, 2]
    assert len(engine.asked) == 2


@pytest.mark.parametrize("answer", [(), (one(B),)], ids=["short", "of other tokens"])
def test_what_is_no_answer_to_the_question_is_refused_and_not_kept(answer):
    scores, wrong = Scores(), FakeEngine({Score: lambda _request: answer})
    with pytest.raises(AnswerError, match="did not answer Score"):
        RememberingEngine(wrong, scores).ask(Score((A,)))
    assert np.array_equal(RememberingEngine(counting(), scores).ask(Score((A,)))[0].token_ids, A.token_ids)
