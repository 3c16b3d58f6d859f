"""A text ends with a token that ends texts, or is as long as was asked for: whatever the engine calls its end."""

import numpy as np
import pytest
from sides import fake_side

from pytest_llmopt.checks._equivalence.observe import decode
from pytest_llmopt.core.answers import DecodeStep, Generation, Timing
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.requests import Generate, Score

END, STOP, LENGTH = 0, 5, 4


def scored(tokens):
    return TopLogprobs.from_logprobs(np.array(tokens), np.full((len(tokens), 7), -np.log(7)))


def run(tokens, reason, ends=frozenset({END}), stops=()):
    def generate(request):
        timing = Timing(0.0, 0.0, 0)
        steps = (DecodeStep(1),) * len(tokens)
        return tuple(Generation(prompt, scored(tokens), reason, steps, timing) for prompt in request.prompts)

    candidate = fake_side({Generate: generate}, vocab_size=7, eos_token_ids=ends)
    reference = fake_side(
        {Score: lambda request: tuple(scored(item.token_ids) for item in request.continuations)}, vocab_size=7
    )
    return decode(candidate, reference, tuple(PromptSet.of(["a"])), LENGTH, stops)


@pytest.mark.parametrize(
    ("tokens", "reason", "cut_short", "past_the_end"),
    [
        ((1, 2, 3, 4), "length", 0, 0),
        ((1, END), "eos", 0, 0),
        ((1, STOP), "stop", 0, 0),
        ((1, 2), "length", 1, 0),
        ((1, 2), "eos", 1, 0),
        ((1, 2), "stop", 1, 0),
        ((1, 2, 3, 4, 6), "length", 0, 1),
        ((1, STOP, 2, 3), "length", 0, 2),
        ((END, 2, END), "eos", 0, 2),
    ],
)
def test_the_end_is_seen_in_the_tokens(tokens, reason, cut_short, past_the_end):
    found = run(tokens, reason, stops=(STOP,))
    assert (found.cut_short, found.past_the_end, found.ends_unknown) == (cut_short, past_the_end, False)


def test_where_no_token_is_known_to_end_a_text_that_is_not_judged():
    found = run((1, 2), "eos", ends=frozenset())
    assert (found.cut_short, found.ends_unknown) == (0, True)
    assert run((1, 2), "length", ends=frozenset()).cut_short == 1
    assert not run((1, 2, 3, 4), "length", ends=frozenset()).ends_unknown
