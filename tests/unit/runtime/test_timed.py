"""Whatever an engine is asked is timed, and nothing else."""

import time

import pytest
from sides import FakeEngine

from pytest_llmopt.core.errors import RequestError
from pytest_llmopt.core.requests import CountGraphs, Inspect
from pytest_llmopt.runtime.timed import Stopwatch, TimedEngine


def slow(_request):
    time.sleep(0.01)
    return 3


def failing(_request):
    time.sleep(0.01)
    message = "too long"
    raise RequestError(message)


def timed():
    return TimedEngine(FakeEngine({CountGraphs: slow, Inspect: failing}), Stopwatch())


def test_answers_are_timed():
    engine = timed()
    assert engine.info.vocab_size == 7
    assert engine.stopwatch.seconds == 0
    assert engine.ask(CountGraphs()) == 3
    assert engine.stopwatch.seconds >= 0.01


def test_time_counts_also_when_the_engine_fails():
    engine = timed()
    with pytest.raises(RequestError):
        engine.ask(Inspect())
    assert engine.stopwatch.seconds >= 0.01


def test_closing_closes_the_engine():
    engine = timed()
    engine.close()
    assert engine.engine.closed
