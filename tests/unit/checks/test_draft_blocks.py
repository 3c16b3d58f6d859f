"""Places in draft blocks, by hand."""

import numpy as np

from pytest_llmopt.checks._sampling.draft_blocks import DraftBlocks
from pytest_llmopt.core.answers import DecodeStep, Generation, Timing
from pytest_llmopt.core.logprobs import TopLogprobs

END = 9


def blocks(tokens, steps, max_new_tokens=100):
    logprobs = TopLogprobs.from_logprobs(np.array(tokens), np.full((len(tokens), 10), -np.log(10)))
    generation = Generation((1,), logprobs, "length", tuple(DecodeStep(*step) for step in steps), Timing(0, 0, 0))
    return DraftBlocks.of(generation, frozenset({END}), max_new_tokens)


def test_each_token_has_its_place_and_its_fate():
    found = blocks([0, 1, 2, 3, 4, 5, 6], [(3, 2), (2, 4), (1, 0), (1, 1)])
    assert found.place.tolist() == [0, 1, 2, 0, 1, 0, 0]
    assert found.proposed.tolist() == [True, True, False, True, True, False, True]
    assert found.accepted.tolist() == [True, True, False, True, False, False, False]
    assert found.after_rejection.tolist() == [False, False, False, False, False, True, False]
    strata = found.strata
    assert strata["proposal 1"].tolist() == [True, False, False, True, False, False, True]
    assert np.flatnonzero(strata["after a block that was accepted whole"]).tolist() == [2]


def test_the_end_of_the_text_is_never_an_accepted_proposal():
    assert blocks([0, END], [(2, 4)]).accepted.tolist() == [True, False]
    assert blocks([0, END], [(3, 4)]).accepted.tolist() == [True, False]


def test_a_proposal_at_the_last_token_asked_for_has_no_known_fate():
    assert blocks([0, 1, 2], [(3, 5)], max_new_tokens=3).examined.tolist() == [True, True, False]


def test_plain_decoding_has_no_proposals():
    found = blocks([0, 1], [(1,), (1,)])
    assert not found.proposed.any()
    assert {name for name, stratum in found.strata.items() if stratum.any()} == {"first target pass"}
    assert found.first_pass.tolist() == [True, False]
