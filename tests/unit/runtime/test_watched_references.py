"""What has nothing to do with a reference is not taken for a change of it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from sides import Letters, fake_side

from pytest_llmopt.core.errors import TestTimeoutError, UnsoundReferenceError, WorkerError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.requests import Score
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.runtime.guard import Guard

CANDIDATE = Variant("m", device="other")


def scored(request, shift=0.0):
    def one(item):
        logits = np.arange(30.0) + shift
        return TopLogprobs.from_logprobs(
            np.array(item.token_ids), np.tile(logits - np.logaddexp.reduce(logits), (len(item.token_ids), 1))
        )

    return tuple(map(one, request.continuations))


class Tokens(Letters):
    """No token is beyond the vocabulary."""

    def encode(self, text):
        return tuple(ord(letter) % 30 for letter in text)


def reference_of(functions):
    return replace(fake_side(functions, vocab_size=30), tokenizer=Tokens())


def guard():
    return Guard({}, lambda _engine: True, lambda _since: None, in_process=lambda _variant: False)


def test_a_reference_that_answers_otherwise_has_changed():
    shifts = itertools.chain([0.0, 0.0], itertools.repeat(0.5))
    reference = reference_of({Score: lambda request: scored(request, np.linspace(0, next(shifts), 30))})
    own = guard()
    assert own.adopt(reference)
    with pytest.raises(UnsoundReferenceError, match="answers a fixed request otherwise"), own.watching("now", ()):
        pass


@pytest.mark.parametrize("error", [WorkerError("was ended by SIGKILL"), TestTimeoutError("still running")])
def test_a_process_that_ended_is_told_as_that_and_is_not_held_against_the_candidate(error):
    calls = itertools.count()

    def answer(request):
        if next(calls) == 2:
            raise error
        return scored(request)

    own = guard()
    assert own.adopt(reference_of({Score: answer}))
    with pytest.raises(type(error), match=str(error)), own.loading(CANDIDATE):
        pass
    with own.loading(CANDIDATE):
        pass


def test_what_the_test_itself_met_is_told_first():
    calls = itertools.count()

    def answer(request):
        if next(calls) >= 2:
            message = "the worker is gone"
            raise WorkerError(message)
        return scored(request)

    own = guard()
    assert own.adopt(reference_of({Score: answer}))
    with pytest.raises(ZeroDivisionError), own.watching("now", ()):
        _ = 1 / 0


def test_one_that_does_not_repeat_itself_at_its_second_load_tells_nothing():
    own, calls = guard(), itertools.count()
    assert own.adopt(reference_of({Score: scored}))
    unsteady = reference_of({Score: lambda request: scored(request, np.linspace(0, next(calls), 30))})
    with pytest.warns(UserWarning, match="does not repeat itself"):
        assert own.adopt(unsteady)


def test_a_reference_that_cannot_score_is_adopted_all_the_same():
    assert guard().adopt(reference_of({}))
