"""Every way to call a forward gives what the plain call gives, or is seen; what the library means by it is excused."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from architectures import KINDS, build
from sides import open_side, running_of

from pytest_llmopt.checks.invariant import invariant
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.requests import ListEntryPoints
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.engines._transformers.entries import ENTRIES

PROMPTS = ["def main(argv):\n    import os\n    return", "one, two, three"]


def opened(model):
    return open_side(Variant(str(model)), LoadPolicy())


@pytest.fixture
def candidate():
    return opened("tiny-llama")


@pytest.fixture(scope="module")
def reference():
    return opened("tiny-llama")


def judged(candidate, reference):
    return invariant(
        candidate, PROMPTS, reference=reference, relations=("entry_points",), num_prompts=1, max_new_tokens=1
    )


def replaced(engine, argument, wrong):
    """The forward of its model, with something else done where it is given an argument."""
    model = running_of(engine).loaded.model
    own = model.forward

    def forward(**given):
        return wrong(own, **given) if given.get(argument) is not None and given[argument] is not False else own(**given)

    model.forward = forward


def first_logits(own, logits_to_keep, **given):
    output = own(**given)
    count = logits_to_keep if isinstance(logits_to_keep, int) else len(logits_to_keep)
    output.logits = output.logits[:, :count]
    return output


def positions_from_one(own, position_ids, **given):
    return own(position_ids=position_ids + (position_ids > 20), **given)


def one_token_late(own, inputs_embeds, **given):
    return own(inputs_embeds=inputs_embeds.roll(1, 1), **given)


def of_other_states(own, output_hidden_states, **given):
    output = own(output_hidden_states=output_hidden_states, **given)
    output.logits = output.logits * 1.02
    return output


def crashes(own, **given):
    msg = "needs input_ids"
    raise TypeError(msg)


@pytest.mark.parametrize(
    ("argument", "wrong", "named"),
    [
        ("logits_to_keep", first_logits, "logits of the last tokens only"),
        ("position_ids", positions_from_one, "position ids"),
        ("inputs_embeds", one_token_late, "embeddings for ids"),
        ("output_hidden_states", of_other_states, "hidden states"),
    ],
)
def test_another_answer_is_seen_and_named(candidate, reference, argument, wrong, named):
    replaced(candidate, argument, wrong)
    for side in (reference, None):
        verdict = judged(candidate, side)
        assert verdict.status is Status.FAIL
        assert f"smallest change that breaks it: a forward with {named} (" in "\n".join(verdict.diagnosis)


def test_a_call_that_the_reference_answers_and_the_candidate_does_not_is_broken(candidate, reference):
    replaced(candidate, "inputs_embeds", crashes)
    verdict = judged(candidate, reference)
    assert verdict.status is Status.FAIL
    assert "embeddings for ids ends in TypeError: needs input_ids" in "\n".join(verdict.diagnosis)
    assert judged(candidate, None).status is Status.PASS


def test_what_the_reference_means_otherwise_too_is_excused(candidate):
    other = opened("tiny-llama")
    for side in (candidate, other):
        replaced(side, "inputs_embeds", one_token_late)
    assert judged(candidate, other).status is Status.PASS
    assert judged(candidate, None).status is Status.FAIL


def test_a_healthy_model_answers_every_call_alike(candidate):
    assert candidate.ask(ListEntryPoints()) == tuple(ENTRIES)
    verdict = judged(candidate, None)
    assert verdict.status is Status.PASS
    assert f"{len(ENTRIES)} changes" in verdict.evidence


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_decoder_passes(kind, tmp_path):
    build(kind, tmp_path)
    engine = opened(tmp_path)
    verdict = judged(engine, engine)
    assert verdict.status is Status.PASS, verdict.diagnosis
