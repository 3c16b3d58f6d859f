"""What optimized says of a draft model: slow sampling fails, sound drafting passes, too little decides nothing."""

import dataclasses

import pytest
from planted_sampling import Verification
from sides import open_side, running_of

from pytest_llmopt.checks.optimized import optimized
from pytest_llmopt.core.loading import LoadPolicy, fixtures_folder
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.side import Context
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.optimizations.decoding.assisted import Assisted

MODEL = "tiny-qwen"
ASSISTED = Applied("decoding.assisted", Assisted())


def side(variant, role="candidate"):
    """An engine that can open the draft model apart."""
    context = Context(open=lambda draft: side(draft, "reference"))
    return dataclasses.replace(open_side(variant, LoadPolicy(), role), context=context)


@pytest.fixture(scope="module")
def reference():
    return side(Variant(MODEL), "reference")


@pytest.fixture(scope="module")
def prompts():
    return PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl")


@pytest.mark.parametrize(("rule", "status"), [("correct", Status.PASS), ("one_hot", Status.FAIL)])
def test_sampling_that_accepts_less_than_draft_and_target_share_fails(reference, prompts, rule, status):
    planted = Applied("planted.verification", Verification(rule))
    found = optimized(side(Variant(MODEL, (ASSISTED, planted))), reference, prompts)
    claims = {name: metric.status for name, metric in found.metrics.items() if name.startswith("assisted.")}
    assert claims.pop("assisted.lost_acceptance") is status
    assert set(claims.values()) == {Status.PASS}, "greedy drafting is sound in both"
    assert any("slower than lossless" in line for line in found.diagnosis) is (rule == "one_hot")


def test_a_sound_draft_of_texts_that_end_at_once_is_not_blamed(prompts):
    candidate, reference = side(Variant(MODEL, (ASSISTED,))), side(Variant(MODEL), "reference")
    few = prompts.take(3)
    contexts = [prompt.encode(reference)[-48:] for prompt in few]
    contexts.append((contexts[0] * 2)[:48] if len(contexts[0]) < 48 else contexts[0][:24] * 2)
    first = {item.token_ids[0] for item in reference.generate(contexts, SamplingParams(1))}
    for engine in (candidate.engine, reference.engine):
        running_of(engine).loaded.model.generation_config.eos_token_id = sorted(first)
        running_of(engine).loaded = dataclasses.replace(running_of(engine).loaded, eos_token_ids=frozenset(first))
    found = optimized(candidate, reference, few)
    assert found.metrics["assisted.accepted_tokens"].status is Status.PASS, "drafting goes on behind the ends"
    assert found.metrics["assisted.accepted_tokens"].estimate.point > 1
    assert Status.FAIL not in {metric.status for metric in found.metrics.values()}
