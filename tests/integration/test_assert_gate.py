"""`assert_gate` runs what belongs to the promise, tells every failure, and leaves a record for each check."""

import shutil
from pathlib import Path


def test_every_check_of_the_promise_leaves_a_record_and_all_failures_are_told(project, records):
    shutil.copy(Path(__file__).parent / "planted.py", project.path / "conftest.py")
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.variants({"healthy": [llmopt.static_cache()],
                          "wrong": [llmopt.static_cache(), llmopt.optimization("planted.softmax_scale", factor=1.5)]})
        def test_it(candidate, reference, prompts):
            verdicts = llmopt.assert_gate(candidate, reference, prompts, checks=("equivalent", "optimized"))
            assert [verdict.check for verdict in verdicts] == ["equivalent", "optimized"]

        @llmopt.static_cache()
        def test_unknown(candidate, reference, prompts):
            llmopt.assert_gate(candidate, reference, prompts, checks=("lossless",))
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-qwen")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*equivalent FAIL: *", "*has no lossless; it has equivalent, optimized, invariant*"])
    found = [(record["variant"], record["check"], record["status"]) for record in records() if record["check"]]
    assert found[:2] == [("static_cache", "equivalent", "PASS"), ("static_cache", "optimized", "PASS")]
    assert [item[1:] for item in found[2:4]] == [("equivalent", "FAIL"), ("optimized", "PASS")]
    (of_the_wrong,) = [
        record for record in records() if record["check"] == "optimized" and "softmax_scale" in record["variant"]
    ]
    assert "softmax_scale in effect" in of_the_wrong["not_judged"]


def test_what_failed_is_told_where_a_later_check_ends_in_an_error(project, records):
    project.makeconftest("""
        from dataclasses import dataclass
        from typing import ClassVar
        from pytest_llmopt import Promise

        @dataclass(frozen=True)
        class Wrong:
            promise: ClassVar[Promise] = Promise.EQUIVALENT
            requirements: ClassVar[tuple] = ()
            conflicts: ClassVar[dict] = {}

            def for_transformers(self, plan):
                plan.after_load.append(lambda model: model.model.norm.weight.data.mul_(1.5))

            def claims(self, use):
                from pytest_llmopt.core.errors import ModelError
                raise ModelError("what was used is gone")

        def pytest_llmopt_optimizations(config):
            return {"wrong": Wrong}
    """)
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.optimization("wrong")
        def test_it(candidate, reference, prompts):
            llmopt.assert_gate(candidate, reference, prompts)
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-qwen")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*equivalent FAIL: *", "*what was used is gone*"])
    assert [(record["check"], record["status"]) for record in records() if record["check"]][:2] == [
        ("equivalent", "FAIL"),
        ("optimized", "ERROR"),
    ]


def test_a_look_that_was_too_small_is_inconclusive(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.static_cache()
        def test_it(candidate, reference):
            llmopt.assert_equivalent(candidate, reference, ["one, two,"], max_new_tokens=8, forced_tokens=0)
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-qwen").assert_outcomes(failed=1)
    (record,) = records()
    assert record["status"] == "INCONCLUSIVE"
    assert record["metrics"]["decoded"]["at_least"] == 64
