"""What goes into an engine is checked before it gets there, and what comes out adds up."""

import numpy as np
import pytest

from pytest_llmopt.core.answers import DecodeStep, Generation, Timing
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.tokens import Continuation


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("max_new_tokens", (0, -1), (1,)),
        ("temperature", (-0.1, float("nan")), (0.0, 2.0)),
        ("top_k", (-1,), (0, 5)),
        ("top_p", (0.0, 1.1), (0.1, 1.0)),
        ("min_p", (-0.1, 1.0), (0.0, 0.9)),
    ],
)
def test_sampling_parameters_outside_their_range_are_refused_by_name(name, bad, good):
    for value in good:
        SamplingParams(**{name: value})
    for value in bad:
        with pytest.raises(OptionError, match=f"{name}=.* (is not possible; give|divides logits)"):
            SamplingParams(**{name: value})


def test_stop_tokens_are_refused_where_nothing_ends():
    with pytest.raises(OptionError, match="ignore_eos=True goes on whatever comes"):
        SamplingParams(ignore_eos=True, stop_token_ids=(3,))


def test_temperature_zero_is_greedy():
    assert SamplingParams().greedy
    assert not SamplingParams(temperature=0.1).greedy


@pytest.mark.parametrize(("prompt_ids", "token_ids"), [((), (1,)), ((1,), ()), ((), ())])
def test_a_continuation_needs_context_and_tokens(prompt_ids, token_ids):
    with pytest.raises(OptionError, match="at least one token of context"):
        Continuation(prompt_ids, token_ids)


def test_a_continuation_is_as_long_as_both_its_parts():
    assert len(Continuation((1, 2), (3,))) == 3


def test_a_generation_counts_drafts_and_those_that_were_accepted():
    logprobs = TopLogprobs.from_logprobs(np.array([2, 0, 1]), np.log(np.full((3, 3), 1 / 3)))
    generation = Generation((7, 8), logprobs, "length", (DecodeStep(2, drafted=3), DecodeStep(1)), Timing(0.1, 0.2, 2))
    assert generation.token_ids == (2, 0, 1)
    assert all(type(token) is int for token in generation.token_ids)
    assert (generation.drafted_tokens, generation.accepted_tokens) == (3, 1)
    assert generation.continuation == Continuation((7, 8), (2, 0, 1))
