"""A planted defect fails, a planted benign difference passes, and the message says what and where."""

import json
import shutil
from pathlib import Path

import pytest

from pytest_llmopt.core.loading import fixtures_folder


@pytest.fixture(autouse=True)
def planted(project):
    shutil.copy(Path(__file__).parent / "planted.py", project.path / "conftest.py")


EQUIVALENT = """
from pytest_llmopt import llmopt

@llmopt.optimization({planted})
def test_it(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=32)
"""


@pytest.mark.any_processor
@pytest.mark.parametrize("model", ["tiny-llama", "tiny-qwen", "tiny-gemma"])
def test_a_small_defect_fails_and_a_benign_difference_passes_on_every_family(project, records, model):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.variants({
            "wrong": llmopt.optimization("planted.softmax_scale", factor=1.2),
            "benign": llmopt.optimization("planted.other_order"),
        })
        def test_it(candidate, reference, prompts):
            llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=32)
    """)
    result = project.runpytest_inprocess("--llmopt-model", model)
    result.assert_outcomes(passed=1, failed=1)
    assert {record["variant"]: record["status"] for record in records()} == {
        "softmax_scale(factor=1.2)": "FAIL",
        "other_order(seed=0)": "PASS",
    }


def test_a_failure_names_the_variant_the_evidence_the_limit_and_the_place(project, records):
    project.makepyfile(EQUIVALENT.format(planted='"planted.softmax_scale", factor=1.3'))
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*equivalent FAIL: max_regret * nats, at most 0.02 nats, and 2 more",
            "*softmax_scale(factor=1.3) on transformers, tiny-llama",
            "*mean_kl * nats/token  95% CI [[]*[]], n=*; at most 3e-06 nats/token: FAIL",
            "*worst KL * nats:",
            "*prompt *, token * after it (position *there",
            "*reference '*' 0.*",
            "*candidate '*' 0.*",
            "*llmopt verdicts*",
            "*1 record: 1 FAIL*",
            "report  .llmopt/report.json",
        ]
    )
    (record,) = records()
    assert (
        record["nodeid"]
        == "test_a_failure_names_the_variant_the_evidence_the_limit_and_the_place.py::test_it[tiny-llama]"
    )
    assert (record["check"], record["model"], record["variant"]) == (
        "equivalent",
        "tiny-llama",
        "softmax_scale(factor=1.3)",
    )
    assert record["status"] == "FAIL"
    assert record["metrics"]["mean_kl"]["at_most"] == 3e-06
    assert record["metrics"]["mean_kl"]["low"] > record["metrics"]["mean_kl"]["at_most"]
    assert record["reason"].startswith("max_regret") or "mean_kl" in record["reason"]
    assert record["seconds"] >= record["engine_seconds"] > 0


def test_nan_never_passes(project):
    project.makepyfile(EQUIVALENT.format(planted='"planted.not_a_number"'))
    result = project.runpytest_inprocess("--llmopt-model", "tiny-qwen")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nonfinite*at most 0 positions: FAIL"])


def test_a_load_that_fails_gives_the_message_of_the_library(project):
    project.makepyfile(EQUIVALENT.format(planted='"planted.broken"'))
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*cannot load broken of tiny-llama: shapes of scales do not fit*"])


@pytest.mark.any_processor
def test_accuracy_tells_rounding_from_a_shifted_zero_point(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.variants({
            "healthy": llmopt.quantized("rounded"),
            "shifted": llmopt.quantized("rounded", bits=4, shifted=True),
        })
        def test_it(candidate, reference, prompts):
            llmopt.assert_accurate(candidate, reference, prompts)
    """)
    prompts = str(fixtures_folder() / "prompts/default.jsonl")
    result = project.runpytest_inprocess("--llmopt-model", "tiny-qwen", "--llmopt-prompts", prompts)
    result.assert_outcomes(passed=1, failed=1)
    by_variant = {record["variant"]: record for record in records()}
    assert by_variant["rounded(bits=8)"]["status"] == "PASS"
    failed = by_variant["rounded(bits=4, shifted=True)"]
    assert failed["status"] == "FAIL"
    for path in ("kl_prefill", "kl_decode"):
        assert failed["metrics"][path]["low"] > failed["metrics"][path]["at_most"]
    assert failed["metrics"]["perplexity_ratio"]["low"] > 2, "a worse model has the larger perplexity"


def test_a_limit_of_ones_own_overrides_the_stated_one(project):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.quantized("rounded")
        def test_it(candidate, reference, prompts):
            llmopt.assert_accurate(candidate, reference, prompts, kl_divergence=1e-9)
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-qwen")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*kl_worst_prompt*at most 5e-09 nats/token: FAIL"])


@pytest.mark.any_processor
def test_an_inconclusive_verdict_fails_unless_the_ini_says_warn(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.quantized("rounded", bits=4)
        def test_it(candidate, reference, prompts):
            measured = llmopt.assert_accurate(
                candidate, reference, prompts, kl_divergence=9, top1_agreement=0.01, perplexity_ratio=9)
            limit = measured.metrics["kl_prefill"].estimate.point
            llmopt.assert_accurate(
                candidate, reference, prompts, kl_divergence=limit, top1_agreement=0.01, perplexity_ratio=9)
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-qwen").assert_outcomes(failed=1)
    assert [record["status"] for record in records()] == ["PASS", "INCONCLUSIVE"]
    warned = project.runpytest_inprocess("--llmopt-model", "tiny-qwen", "--llmopt-inconclusive", "warn")
    warned.assert_outcomes(passed=1, warnings=1)


def test_a_budget_is_judged_and_the_benchmark_table_keeps_working(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.quantized("bitsandbytes")
        @llmopt.budget(weight_saving=100, decode_speedup=0.001)
        def test_it(candidate, reference, benchmark):
            llmopt.assert_within_budget(candidate, reference, benchmark, rounds=8, new_tokens=16)
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama", "--benchmark-json=bench.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*weight_saving*at least 100 x: FAIL", "*benchmark: 1 tests*"])
    (record,) = records()
    assert record["metrics"]["decode_speedup"]["low"] > 0.001
    assert record["metrics"]["decode_speedup"]["n"] == 8
    assert '"weight_memory"' in project.path.joinpath("bench.json").read_text()


def test_a_budget_of_time_is_skipped_with_the_reason_where_benchmarks_are_off(project):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.budget(decode_speedup=0.001)
        def test_time(candidate, reference, benchmark):
            llmopt.assert_within_budget(candidate, reference, benchmark)

        @llmopt.budget(weight_memory="1 GiB")
        def test_memory(candidate, reference, benchmark):
            llmopt.assert_within_budget(candidate, reference, benchmark)
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama", "--benchmark-disable", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*decode_speedup cannot be timed while pytest-benchmark is off*"])


@pytest.mark.any_processor
def test_a_lost_item_is_counted_against_the_candidate(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.quantized("rounded")
        def test_it(candidate, reference, prompts):
            outcomes = [(True, True)] * 400 + [(True, False)] * 90 + [(False, True)] * 10
            llmopt.assert_accurate(candidate, reference, prompts, top1_agreement=0.1, outcomes=outcomes)
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-qwen")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*accuracy_loss*16.00%*at most 1.00%: FAIL"])


def test_a_failure_in_16_bits_is_repeated_in_float32_and_the_message_says_what_it_is(project):
    project.makepyfile(EQUIVALENT.format(planted='"planted.softmax_scale", factor=1.3'))
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama", "--llmopt-dtype", "bfloat16")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*in float32 too: the algorithm, not rounding*"])


def test_the_noise_floor_is_measured_once_and_kept(project):
    project.makepyfile(EQUIVALENT.format(planted='"planted.other_order"'))
    cache = project.path / ".llmopt/cache/noise-floor"
    project.runpytest_inprocess("--llmopt-model", "tiny-llama", "--llmopt-dtype", "bfloat16").assert_outcomes(passed=1)
    (file,) = cache.glob("*.json")
    before = file.stat().st_mtime_ns
    project.runpytest_inprocess("--llmopt-model", "tiny-llama", "--llmopt-dtype", "bfloat16").assert_outcomes(passed=1)
    assert [path.stat().st_mtime_ns for path in cache.glob("*.json")] == [before]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_failure_loads_the_two_sides_once_and_no_copy_of_either(project, dtype):
    project.makepyfile(EQUIVALENT.format(planted='"planted.softmax_scale", factor=1.3'))
    # The floor is measured, and in 16 bits the failure repeated in float32: all in place.
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama", "--llmopt-dtype", dtype)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*x floor*"])
    report = json.loads((project.path / ".llmopt/report.json").read_text(encoding="utf-8"))
    assert (report["session"]["variants"], report["session"]["loads"]) == (2, 2)


def test_what_fails_at_the_first_look_fails_at_once(project, records):
    project.makepyfile("""
        from dataclasses import dataclass, replace
        from pytest_llmopt import llmopt
        from pytest_llmopt.core.engine import EngineWrapper
        from pytest_llmopt.core.requests import ForceDecode

        @dataclass(frozen=True)
        class Asked(EngineWrapper):
            kinds: list

            def ask(self, request):
                self.kinds.append(type(request))
                return self.engine.ask(request)

        @llmopt.variants({
            "broken": llmopt.optimization("planted.softmax_scale", factor=1.5),
            "right": llmopt.static_cache(),
        })
        def test_it(candidate, reference, prompts):
            asked = Asked(candidate.engine, [])
            try:
                llmopt.assert_equivalent(replace(candidate, engine=asked), reference, prompts, max_new_tokens=8)
            finally:
                assert (ForceDecode in asked.kinds) == candidate.variant.label.startswith("static")
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-qwen")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*assert bool(forced)*")


def test_tokens_beyond_the_number_asked_for_are_counted(project, records):
    project.makepyfile("""
        from dataclasses import replace
        from pytest_llmopt import llmopt
        from pytest_llmopt.core.engine import EngineWrapper
        from pytest_llmopt.core.requests import Generate

        class Talkative(EngineWrapper):
            def ask(self, request):
                if isinstance(request, Generate):
                    longer = replace(request.sampling, max_new_tokens=request.sampling.max_new_tokens + 2)
                    request = replace(request, sampling=longer)
                return self.engine.ask(request)

        @llmopt.static_cache()
        def test_it(candidate, reference, prompts):
            talkative = replace(candidate, engine=Talkative(candidate.engine))
            llmopt.assert_equivalent(talkative, reference, prompts, max_new_tokens=6)
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-llama").assert_outcomes(failed=1)
    (record,) = records()
    assert record["metrics"]["past_the_end"]["point"] == 8
