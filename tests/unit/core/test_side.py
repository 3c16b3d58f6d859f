"""A side is sugar over what its engine answers, and says what it does not answer."""

import numpy as np
import pytest
from sides import fake_side

from pytest_llmopt.core import requests
from pytest_llmopt.core.answers import Generation, Timing
from pytest_llmopt.core.errors import AnswerError, NotAnsweredError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.tokens import Continuation

SAMPLING = SamplingParams()
PART = Continuation((1,), (2, 3))


def scored(*tokens):
    return TopLogprobs.from_logprobs(np.array(tokens), np.full((len(tokens), 7), -np.log(7)))


def decoded(prompt, *tokens):
    return Generation(prompt, scored(*tokens), "length", (), Timing(0.0, 0.0, 0))


ANSWERS = {
    requests.Generate: [decoded((1,), 2, 3)],
    requests.Score: [scored(2, 3)],
    requests.ForceDecode: [decoded((1,), 2, 3)],
}
SUGAR = {
    requests.Generate(((1,),), SAMPLING): lambda side: side.generate([(1,)], SAMPLING),
    requests.Score((PART,)): lambda side: side.score([PART]),
    requests.Score((PART,), fresh=True): lambda side: side.fresh().score([PART]),
    requests.ForceDecode((PART,), prefill_chunk=2, seed=3): lambda side: side.force([PART], prefill_chunk=2, seed=3),
    requests.ForceDecode((PART,), unused_cache=1e3): lambda side: side.force([PART], unused_cache=1e3),
    requests.MeasureMemory(): lambda side: side.footprint(),
    requests.CountGraphs(): lambda side: side.compilations(),
    requests.Inspect(): lambda side: side.inspect(),
    requests.RepeatCall(((1,),), SAMPLING): lambda side: side.work([(1,)], SAMPLING),
    requests.FindLacks(): lambda side: side.lacks,
    requests.Vary(requests.Inspect(), "permuted", 5): lambda side: side.varied("permuted", 5).inspect(),
}


def test_a_side_says_what_its_engine_says():
    side = fake_side(vocab_size=7, dtype="float16", eos_token_ids=frozenset({1}), max_length=9)
    assert (side.vocab_size, side.dtype, side.eos_token_ids, side.max_length) == (7, "float16", {1}, 9)
    assert side.decode(side.encode("abc")) == "abc"
    assert repr(side) == "<candidate: unoptimized of m>"


@pytest.mark.parametrize("request_", SUGAR, ids=lambda request: type(request).__name__)
def test_every_method_asks_one_request_and_gives_its_answer(request_):
    kinds = {type(request_), *({type(request_.request)} if isinstance(request_, requests.Vary) else ())}
    answer = ANSWERS.get(type(request_), ["answer"])
    side = fake_side(dict.fromkeys(kinds, lambda _request: answer))
    assert SUGAR[request_](side) == answer
    assert side.engine.asked == [request_]


@pytest.mark.parametrize("request_", [item for item in SUGAR if not isinstance(item, requests.FindLacks)])
def test_what_the_engine_does_not_answer_is_named(request_):
    with pytest.raises(NotAnsweredError, match=f"{type(request_).__name__}|Inspect") as caught:
        SUGAR[request_](fake_side())
    assert caught.value.name in {type(request_).requirement(), "inspect"}


def test_an_engine_that_does_not_know_what_it_lacks_lacks_nothing_that_is_known():
    assert fake_side().lacks == {}


def test_in_float32_a_side_says_so_where_it_had_fewer_bits():
    knows = {requests.Vary: print}
    assert fake_side(knows, dtype="bfloat16").varied("float32").dtype == "float32"
    assert fake_side(knows, dtype="float64").varied("float32").dtype == "float64"
    assert fake_side(knows, dtype="bfloat16").varied("permuted").dtype == "bfloat16"


def test_a_requirement_has_the_name_of_the_request():
    assert requests.ForceDecode.requirement() == "force_decode"
    assert requests.Score.requirement() == "score"


@pytest.mark.parametrize(
    ("request_", "answer", "why"),
    [
        (requests.Generate(((1,), (2,)), SAMPLING), (decoded((1,), 3),), "2 were asked for and 1 came"),
        (
            requests.Generate(((1,), (2,)), SAMPLING),
            (decoded((1,), 3), decoded((1,), 3)),
            "number 2 is about another",
        ),
        (requests.Generate(((1,),), SAMPLING), (scored(3),), "no tuple of Generation"),
        (requests.Generate(((1,),), SAMPLING), None, "no tuple of Generation"),
        (requests.Score((PART,)), (scored(2),), "number 1 is about other tokens"),
        (requests.Score((PART,)), (scored(3, 2),), "number 1 is about other tokens"),
        (requests.Score((PART, PART)), (scored(2, 3),) * 3, "2 were asked for and 3 came"),
        (requests.ForceDecode((PART,)), (decoded((1,), 2),), "other tokens than were forced"),
        (requests.ForceDecode((PART,)), (decoded((4,), 2, 3),), "another prompt"),
        (
            requests.ForceDecode((Continuation((1, 5), (2,)),), report_prompt=True),
            (decoded((1, 5), 2),),
            "another prompt",
        ),
        (requests.Vary(requests.Score((PART,)), "permuted"), (), "1 were asked for and 0 came"),
    ],
)
def test_an_answer_to_another_request_is_refused(request_, answer, why):
    side = fake_side({type(request_): lambda _request: answer})
    with pytest.raises(AnswerError, match=f"did not answer {type(request_).__name__}: .*{why}"):
        side.ask(request_)


def test_a_prompt_that_is_reported_counts_among_the_tokens():
    request = requests.ForceDecode((Continuation((1, 5), (2,)),), report_prompt=True)
    answer = (decoded((1,), 5, 2),)
    assert fake_side({requests.ForceDecode: lambda _request: answer}).ask(request) == answer
