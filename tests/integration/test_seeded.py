"""A sampler that drops its seed or always takes the same one fails; one that obeys passes, speculative or not."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pytest_llmopt.checks.seeded import _Collided, _Repeated, _Seeded
from pytest_llmopt.core.answers import DecodeStep, Generation, Timing
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.relation import Pair
from pytest_llmopt.core.tokens import Continuation


@pytest.fixture
def verdicts(project, records):
    """A function that runs variants through `assert_seeded` and gives their records by variant id."""
    shutil.copy(Path(__file__).parent / "planted_sampling.py", project.path / "conftest.py")

    def run(model, variants, *options, **settings):
        listed = ", ".join(f"{name!r}: [{marks}]" for name, marks in variants.items())
        arguments = "".join(f", {name}={value!r}" for name, value in settings.items())
        project.makepyfile(f"""
            from pytest_llmopt import llmopt

            def planted(rule):
                return llmopt.optimization("planted.verification", rule=rule)

            @llmopt.variants({{{listed}}})
            def test_it(candidate, prompts):
                llmopt.assert_seeded(candidate, prompts{arguments})
        """)
        project.runpytest_inprocess("--llmopt-model", model, *options)
        return {record["nodeid"].partition("[")[2].split("-")[-1].strip("]"): record for record in records()}

    return run


def test_a_dropped_seed_and_a_constant_one_fail_each_by_its_own_promise(verdicts):
    found = verdicts("tiny-llama", {"dropped": "planted('seed_ignored')", "constant": "planted('constant_seed')"})
    dropped, constant = found["dropped"], found["constant"]
    assert (dropped["status"], constant["status"]) == ("FAIL", "FAIL")
    assert (dropped["metrics"]["unrepeated"]["point"], constant["metrics"]["unrepeated"]["point"]) == (3, 0)
    assert constant["metrics"]["collision"]["point"] > constant["metrics"]["collision"]["at_most"] > 13
    assert dropped["metrics"]["collision"]["point"] < 0
    assert "another text for 3 prompts, rounding explains 0" in dropped["reason"]
    assert "first difference" in dropped["reason"]
    assert "same text for 3 of 3 prompts" in constant["reason"]


@pytest.mark.any_processor
@pytest.mark.parametrize(("model", "dtype"), [("tiny-gemma", "float32"), ("tiny-qwen", "bfloat16")])
def test_what_obeys_its_seed_passes(verdicts, model, dtype):
    variants = {
        "plain": "",
        "static": "llmopt.static_cache()",
        "assisted": "llmopt.assisted()",
        "lookup": "llmopt.prompt_lookup(3)",
    }
    found = verdicts(model, variants, "--llmopt-dtype", dtype)
    assert {name: record["status"] for name, record in found.items()} == dict.fromkeys(variants, "PASS")


def test_a_text_that_is_nearly_certain_decides_nothing(verdicts):
    sure = "llmopt.optimization('planted.certain')"
    (record,) = verdicts("tiny-llama", {"sure": sure}, max_new_tokens=1, num_prompts=1).values()
    assert record["status"] == "INCONCLUSIVE"
    assert "ask for more prompts or more tokens" in record["reason"]


def test_texts_that_end_at_once_go_on_until_there_is_enough_surprise(verdicts):
    ends = "llmopt.optimization('planted.ending')"
    found = verdicts("tiny-qwen", {"sound": ends, "constant": f"{ends}, planted('constant_seed')"})
    assert {name: record["status"] for name, record in found.items()} == {"sound": "PASS", "constant": "FAIL"}


def generation(tokens, logprob):
    known = np.log(np.full((len(tokens), 2), 0.5))
    scored = TopLogprobs(np.array(tokens), np.full(len(tokens), logprob), np.tile([0, 1], (len(tokens), 1)), known, 2)
    return Generation((1,), scored, "length", (DecodeStep(1),) * len(tokens), Timing(0, 0, 0))


def test_the_evidence_of_a_collision_is_what_two_fresh_draws_would_pay_for_it():
    first, other = [generation([0, 1], -3.0), generation([1], -2.0)], [generation([0, 1], -3.0), generation([0], -2.0)]
    texts = [_Seeded("", one, one, two, endless=False) for one, two in zip(first, other, strict=True)]
    found = _Collided.of(texts, frozenset(), 1e-6)
    assert (found.texts, found.surprise) == (1, 8.0)
    assert found.log_evidence == pytest.approx(np.log((1 + np.exp(6)) / 2) + np.log(1 / 2))


def test_as_many_texts_may_change_as_rounding_explains():
    def pair(share):
        laws = [np.log([[0.5, 0.5]]), np.log([[share, 1 - share]])]
        sides = [TopLogprobs.from_logprobs(np.array([token]), law) for token, law in enumerate(laws)]
        return Pair("", "a", Continuation((1,), (0,)), *sides)

    assert (len(_Repeated.of([pair(0.5)], 1e-6).changed), _Repeated.of([pair(0.5)], 1e-6).allowed) == (1, 0)
    assert _Repeated.of([pair(0.4)] * 8, 1e-6).allowed > _Repeated.of([pair(0.5001)] * 8, 1e-6).allowed >= 1
