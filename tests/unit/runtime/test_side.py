"""A side delegates to its engine and times what engines do, nothing else."""

import time

import pytest
from pytest_llmopt.runtime.side import Side

from pytest_llmopt.core.errors import RequestError
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.side import Context
from pytest_llmopt.core.variant import Variant


class SlowEngine:
    """Takes its time over generating and scoring, as engines do."""

    vocab_size, dtype, eos_token_ids, max_length = 7, "float32", frozenset({1}), 9
    closed = False

    def encode(self, text):
        return (len(text), 2)

    def decode(self, token_ids):
        return f"text of {token_ids}"

    def generate(self, prompts, sampling):
        time.sleep(0.01)
        return [("generated", prompts, sampling)]

    def score(self, continuations):
        time.sleep(0.01)
        return [("scored", continuations)]

    def footprint(self):
        return "footprint"

    def compilations(self):
        return 3

    def work(self, prompts, sampling):
        return ("worked", prompts, sampling)

    def close(self):
        self.closed = True


@pytest.fixture
def side():
    return Side("candidate", Variant("m"), SlowEngine())


def test_a_side_says_what_its_engine_says(side):
    sampling = SamplingParams()
    assert (side.vocab_size, side.dtype, side.eos_token_ids, side.max_length) == (7, "float32", {1}, 9)
    assert side.encode("x") == (1, 2)
    assert side.decode([1]) == "text of [1]"
    assert side.footprint() == "footprint"
    assert side.compilations() == 3
    assert side.work([(1,)], sampling) == ("worked", [(1,)], sampling)
    assert side.generate([(1,)], sampling) == [("generated", [(1,)], sampling)]
    assert side.score([(1,)]) == [("scored", [(1,)])]


def test_generating_and_scoring_are_timed(side):
    side.encode("x")
    assert side.stopwatch.seconds == 0
    side.generate([], SamplingParams())
    once = side.stopwatch.seconds
    assert once >= 0.01
    side.score([])
    assert side.stopwatch.seconds >= once + 0.01


def test_time_counts_also_when_the_engine_fails(side):
    def fail(continuations):
        time.sleep(0.01)
        raise RequestError(str(continuations))

    side.engine.score = fail
    with pytest.raises(RequestError):
        side.score([])
    assert side.stopwatch.seconds >= 0.01


def test_closing_a_side_leaves_the_engine_to_its_loader(side):
    side.close()
    assert not side.engine.closed


def test_sides_share_nothing_unless_told():
    one, other = (Side("candidate", Variant("m"), SlowEngine()) for _ in range(2))
    assert one.stopwatch is not other.stopwatch
    Context().record("verdict", 0.0, 0.0)
