"""Sampling that loses the distribution fails with its cause; slow but lossless speculation passes."""

import shutil
from pathlib import Path

import pytest

from pytest_llmopt.core.loading import fixtures_folder

PROMPTS = str(fixtures_folder() / "prompts/default.jsonl")


@pytest.fixture
def verdicts(project, records):
    """A function that runs variants through `assert_lossless` and gives their records by variant id."""
    shutil.copy(Path(__file__).parent / "planted_sampling.py", project.path / "conftest.py")

    def run(model, variants, *options, **settings):
        listed = ", ".join(f"{name!r}: [{', '.join(marks)}]" for name, marks in variants.items())
        arguments = "".join(f", {name}={value!r}" for name, value in settings.items())
        project.makepyfile(f"""
            from pytest_llmopt import llmopt

            def planted(rule, amount=0.0):
                return llmopt.optimization("planted.verification", rule=rule, amount=amount)

            @llmopt.variants({{{listed}}})
            def test_it(candidate, reference, prompts):
                llmopt.assert_lossless(candidate, reference, prompts{arguments})
        """)
        project.runpytest_inprocess("--llmopt-model", model, "--llmopt-prompts", PROMPTS, *options)
        return {record["nodeid"].partition("[")[2].split("-")[-1].strip("]"): record for record in records()}

    return run


def planted(rule, amount=0.0):
    return ("llmopt.assisted()", f"planted({rule!r}, {amount})")


@pytest.mark.any_processor
def test_known_bugs_of_verification_fail_and_are_named(verdicts):
    found = verdicts(
        "tiny-llama",
        {
            "everything": planted("accept_all"),
            "unwarped": planted("not_warped"),
        },
        temperature=0.7,
        max_new_tokens=40,
    )
    assert {name: record["status"] for name, record in found.items()} == dict.fromkeys(
        ("everything", "unwarped"), "FAIL"
    )
    assert "accepted too often: tokens lean towards the draft" in found["everything"]["reason"]
    assert "temperature of about 1 instead of 0.7" in found["unwarped"]["reason"]
    for record in found.values():
        assert (
            record["metrics"]["log_wealth"]["point"]
            > record["metrics"]["log_wealth"]["at_most"]
            == pytest.approx(9.21, abs=0.01)
        )
        assert record["metrics"]["tokens_to_alarm"]["point"] <= record["metrics"]["tokens"]["point"] < 1000
        assert "proposal" in record["reason"]


@pytest.mark.parametrize("model", ["tiny-qwen", "tiny-gemma"])
def test_lossless_passes_and_lossy_fails_on_every_family(verdicts, model):
    found = verdicts(
        model,
        {"right": ["llmopt.assisted()"], "argmax": planted("argmax_draft")},
        temperature=1.0,
        max_tokens=120,
        max_new_tokens=30,
    )
    assert (found["right"]["status"], found["argmax"]["status"]) == ("PASS", "FAIL")
    assert "its most probable token but is verified as if it had sampled" in found["argmax"]["reason"]


def test_correct_speculation_passes_and_so_does_slow_one_which_is_told(verdicts):
    found = verdicts(
        "tiny-llama",
        {
            "right": ["llmopt.assisted()"],
            "onehot": planted("one_hot"),
            "lookup": ["llmopt.prompt_lookup(3)"],
            "plain": ["planted('correct')"],
        },
        temperature=0.8,
        top_k=40,
        top_p=0.95,
        min_p=0.01,
        max_tokens=250,
        max_new_tokens=32,
    )
    assert {record["status"] for record in found.values()} == {"PASS"}
    assert "slower than" not in found["right"]["evidence"]
    assert "slower than lossless verification has to be; reported, not judged" in found["onehot"]["evidence"]
    assert found["onehot"]["metrics"]["lost_acceptance"]["point"] > 9.2
    rates = found["right"]["metrics"]
    assert rates["acceptance_rate"]["point"] == pytest.approx(rates["expected_acceptance"]["point"], abs=0.1)
    assert "acceptance_rate" in found["lookup"]["metrics"]
    assert "acceptance_rate" not in found["plain"]["metrics"]


def test_rounding_to_sixteen_bits_is_no_loss(verdicts):
    found = verdicts(
        "tiny-qwen",
        {"right": ["llmopt.assisted()"]},
        "--llmopt-dtype",
        "bfloat16",
        top_k=40,
        max_tokens=120,
        max_new_tokens=30,
    )
    assert found["right"]["status"] == "PASS"


def test_a_token_outside_the_support_fails_at_once_and_names_the_filter(verdicts):
    found = verdicts(
        "tiny-qwen", {"more": ["planted('wrong_top_k', 30)"]}, top_k=10, temperature=1.0, max_new_tokens=30
    )
    assert found["more"]["status"] == "FAIL"
    assert found["more"]["metrics"]["violations"]["point"] > 0
    assert "top_k=10 is not applied" in found["more"]["reason"]


def test_filters_that_cut_before_the_temperature_fail_and_the_order_is_named(verdicts):
    found = verdicts("tiny-llama", {"order": ["planted('filters_first')"]}, top_p=0.9, max_tokens=256)
    assert found["order"]["status"] == "FAIL"
    assert "the filters cut before the temperature is applied" in found["order"]["reason"]


def test_greedy_sides_are_refused_with_the_name_of_the_setting(verdicts):
    found = verdicts("tiny-qwen", {"greedy": ["llmopt.assisted()"]}, temperature=0.0)
    assert found["greedy"]["status"] == "ERROR"
    assert "temperature=0 draws nothing" in found["greedy"]["reason"]


def test_reported_log_probabilities_that_are_not_the_ones_drawn_from_fail(project, records):
    project.makepyfile("""
        import dataclasses
        from pytest_llmopt import llmopt

        from pytest_llmopt.core.engine import EngineWrapper
        from pytest_llmopt.core.requests import Generate

        class Processing(EngineWrapper):
            def ask(self, request):
                answer = self.engine.ask(request)
                return tuple(map(processed, answer)) if isinstance(request, Generate) else answer

        def processed(item):
            known = item.logprobs
            scaled = dataclasses.replace(known, top_logprobs=known.top_logprobs / 0.7)
            return dataclasses.replace(item, logprobs=scaled)

        def test_it(candidate, reference, prompts):
            processing = dataclasses.replace(candidate, engine=Processing(candidate.engine))
            llmopt.assert_lossless(processing, reference, prompts, max_tokens=64)
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-qwen").assert_outcomes(failed=1)
    (record,) = records()
    assert record["metrics"]["logits_kl"]["point"] > 1e-3
    assert "reported log-probabilities" in record["reason"]
