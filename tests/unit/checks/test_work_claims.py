"""Work beyond the reference's is found by exact counts; drafts, pieces of a prompt and idle memory are no such work."""

import numpy as np
import pytest

from pytest_llmopt.checks._optimized.work import tokens_fed, work_claims
from pytest_llmopt.core.claims import Use
from pytest_llmopt.core.inspection import ForwardPass, Inspection, Work
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.optimizations.decoding._decoding_claims import compiled_claims

REFERENCE = Inspection(passes=(ForwardPass(1, 40, 1), *[ForwardPass(1, 1, 1)] * 3))


IDLE = Work()


def use(inspection=REFERENCE, work=IDLE):
    return Use(inspection, REFERENCE, (), 1, 0, np.array([0.0]), "float32", work)


def untrue(*args):
    return {claim.name: claim.metric.estimate.point for claim in work_claims(use(*args)) if not passes(claim)}


def passes(claim):
    return claim.metric.status is Status.PASS


def inspected(*tokens, logits=None, rows=1, **others):
    logits = logits or [1] * len(tokens)
    return Inspection(passes=tuple(ForwardPass(rows, *each) for each in zip(tokens, logits, strict=True)), **others)


def test_the_same_work_and_the_same_work_in_pieces_pass():
    assert untrue() == {}
    assert untrue(inspected(16, 16, 8, 1, 1, 1)) == {}


def test_a_prompt_that_was_found_in_a_cache_passes():
    assert untrue(inspected(8, 1, 1, 1)) == {}


def test_every_token_beyond_the_reference_counts():
    assert untrue(inspected(40, 40, 1, 1, 1)) == {"redundant_tokens": 40}
    assert untrue(inspected(40, 41, 42, 43)) == {"redundant_tokens": 1 + 2 + 38 + 40 + 42}
    assert untrue(inspected(40, 1, 1, 1, 1)) == {"redundant_tokens": 1}


def test_drafts_are_no_needless_work_but_a_second_prefill_beside_them_is():
    assert untrue(inspected(45, 6, logits=[6, 6], extra_tokens=5)) == {}
    assert untrue(inspected(45, 6, logits=[6, 6])) == {"redundant_tokens": 8, "redundant_logits": 10}
    assert "redundant_tokens" in untrue(inspected(40, 45, 6, extra_tokens=5))
    assert "redundant_logits" in untrue(inspected(45, 6, logits=[45, 6], extra_tokens=5))


def test_rows_that_were_asked_for_are_no_needless_work_and_others_are():
    assert untrue(inspected(40, 1, 1, 1, rows=8, extra_tokens=0)) == {"redundant_tokens": 7 * 43}
    filled = inspected(40, 1, 1, 1, rows=8)
    assert tokens_fed(Inspection(passes=filled.passes, rows=8)) == tokens_fed(REFERENCE)


def test_logits_of_the_whole_prompt_are_found():
    assert untrue(inspected(40, 1, 1, 1, logits=[40, 1, 1, 1])) == {"redundant_logits": 39}


def test_memory_that_grows_is_found():
    assert untrue(REFERENCE, Work(kept_bytes=512, kept="1 x float32 [128]")) == {"kept_bytes": 512}
    assert untrue(REFERENCE, Work(kept_bytes=0)) == {}


def test_what_an_engine_cannot_tell_is_not_claimed():
    assert list(work_claims(use(Inspection()))) == []


@pytest.mark.parametrize(
    ("prefill", "eager", "holds"), [(True, 0, True), (True, 1, False), (False, 2, True), (False, 3, False)]
)
def test_a_warm_pass_runs_in_a_graph_but_for_a_prefill_that_is_not_compiled(prefill, eager, holds):
    claims = compiled_claims(use(REFERENCE, Work(eager_passes=eager, batches=2)), prefill=prefill)
    assert {claim.name: passes(claim) for claim in claims}["eager_passes"] is holds


def test_what_no_model_of_the_architecture_can_do_is_not_lost_and_what_the_candidate_alone_cannot_is():
    lacking, able = Inspection(lacks={"left_padding": "takes no position_ids"}), Inspection()

    def lost(own, reference):
        both = Use(own, reference, (), 1, 0, np.array([0.0]), "float32", IDLE)
        return [claim.name for claim in work_claims(both) if not passes(claim)]

    assert lost(lacking, lacking) == lost(able, lacking) == []
    assert lost(lacking, able) == ["lost_abilities"]
