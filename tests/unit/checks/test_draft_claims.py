"""What a draft should win, block by block, by hand."""

import numpy as np
import pytest

from pytest_llmopt.core.answers import DecodeStep, Generation, Timing
from pytest_llmopt.core.claims import SampledAcceptance, Use
from pytest_llmopt.core.inspection import Inspection
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.optimizations.decoding.assisted import Assisted

SURE, CLOSE, WRONG = (0.0, -6.0, -7.0), (-1.0, -1.01, -4.0), (-6.0, 0.0, -7.0)
"""The draft's view of token 0, which is emitted, and of two others."""


def short_blocks(views, steps, tie_margin=0.1, **settings):
    known = np.array(views, float)
    scored = TopLogprobs.from_logprobs(np.zeros(len(views), int), known - np.logaddexp.reduce(known, axis=1)[:, None])
    generation = Generation((1,), scored, "length", tuple(DecodeStep(*step) for step in steps), Timing(0, 0, 0))
    what = {"draft": (scored,), "tie_margin": tie_margin}
    use = Use(Inspection(), Inspection(), (generation,), 0, 0, np.zeros(1), "float32", **what)
    (claim,) = [item for item in Assisted(**settings).claims(use) if item.name == "short_blocks"]
    return claim


def status(*args, **settings):
    return short_blocks(*args, **settings).metric.status


def test_a_draft_that_wins_what_its_first_choices_are_worth_passes():
    assert status([SURE, SURE, WRONG, SURE, SURE], [(3, 4), (2, 1)]) is Status.PASS


def test_a_block_that_wins_less_fails_with_what_it_should_have_won():
    claim = short_blocks([SURE, SURE, WRONG, SURE, SURE], [(1, 4), (2, 3), (2, 1)])
    assert claim.metric.status is Status.FAIL
    assert (claim.metric.estimate.point, claim.metric.estimate.n) == (1, 3)
    assert "1 of 3 target passes" in claim.otherwise
    assert "0 instead of 2; 0 of them were given fewer" in claim.otherwise


def test_a_block_that_was_cut_short_fails_although_all_of_it_was_accepted():
    claim = short_blocks([SURE] * 6, [(2, 1), (4, 5)])
    assert claim.metric.status is Status.FAIL
    assert "1 of them were given fewer proposals than num_draft_tokens=5" in claim.otherwise


@pytest.mark.parametrize("steps", [[(1, 2), (2, 1)], [(2, 2), (1, 1)]])
def test_where_rounding_decides_the_drafts_choice_both_fates_are_right(steps):
    assert status([CLOSE, WRONG, SURE], steps) is Status.PASS
    assert status([SURE, WRONG, SURE], steps) is (Status.FAIL if steps[0][0] == 1 else Status.PASS)


def test_the_last_token_is_the_targets_own():
    assert status([SURE, SURE], [(2, 1)]) is Status.PASS


def test_no_block_is_longer_than_the_optimization_says():
    assert status([SURE] * 6, [(3, 2), (3, 2)], num_draft_tokens=2) is Status.PASS
    assert status([SURE] * 6, [(3, 2), (3, 2)], num_draft_tokens=3) is Status.FAIL


def test_a_confidence_threshold_ends_a_block_after_the_token_below_it():
    assert status([CLOSE, SURE, SURE], [(2, 1), (1, 0)], tie_margin=0.001, confidence_threshold=0.9) is Status.PASS
    assert status([CLOSE, SURE, SURE], [(2, 1), (1, 0)], tie_margin=0.001) is Status.FAIL


def claims_of(texts, views=None, sampled=None):
    """Claims about some texts, each the steps of its target passes, with the draft's view of every token."""
    generations, drafts = [], []
    for steps in texts:
        known = np.array([views or WRONG] * sum(emitted for emitted, _ in steps), float)
        there = np.zeros(len(known), int)
        scored = TopLogprobs.from_logprobs(there, known - np.logaddexp.reduce(known, axis=1)[:, None])
        made = tuple(DecodeStep(*step) for step in steps)
        generations.append(Generation((1,), scored, "eos", made, Timing(0, 0, 0)))
        drafts.append(scored)
    what = {"draft": drafts, "tie_margin": 0.1, "sampled": sampled}
    use = Use(Inspection(), Inspection(), generations, 0, 0, np.zeros(1), "float32", **what)
    return {claim.name: claim for claim in Assisted().claims(use)}


def test_texts_that_end_at_once_decide_nothing_of_a_draft():
    claim = claims_of([[(1, 5)], [(1, 5), (1, 5)]])["accepted_tokens"]
    assert claim.metric.status is Status.INCONCLUSIVE
    assert "give longer prompts" in claim.otherwise.lower()
    assert claims_of([[(1, 0)]])["drafted_tokens"].metric.status is Status.INCONCLUSIVE


def test_a_draft_that_is_never_right_fails_once_there_were_chances():
    assert claims_of([[(1, 5)] * 17])["accepted_tokens"].metric.status is Status.FAIL
    assert claims_of([[(1, 5)] * 16])["accepted_tokens"].metric.status is Status.INCONCLUSIVE
    assert claims_of([[(1, 0)] * 16])["drafted_tokens"].metric.status is Status.FAIL


def test_a_proposal_that_the_draft_was_right_about_and_that_was_not_accepted_fails_in_the_shortest_text():
    assert claims_of([[(1, 5), (1, 5), (1, 5)]], SURE)["accepted_tokens"].metric.status is Status.FAIL
    assert claims_of([[(3, 5)]], SURE)["accepted_tokens"].metric.status is Status.PASS


@pytest.mark.parametrize(("lost", "status"), [(9.0, Status.PASS), (9.5, Status.FAIL), (float("nan"), Status.FAIL)])
def test_sampling_that_accepts_too_little_fails_and_says_how_much_that_is(lost, status):
    claim = claims_of([[(3, 5)]], SURE, SampledAcceptance(60, 0.2, 0.8, lost, 9.2))["lost_acceptance"]
    assert claim.metric.status is status
    assert "accepted 20.0% of 60 proposals where draft and target share 80.0%" in claim.otherwise


def test_nothing_is_claimed_of_a_draft_that_cannot_be_asked():
    use = Use(Inspection(), Inspection(), (), 0, 0, np.zeros(1), "float32")
    assert [claim.name for claim in Assisted().claims(use)] == ["drafted_tokens", "accepted_tokens"]
