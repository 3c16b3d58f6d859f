"""A candidate that changes its own reference ends in ERROR, which names what; the next test has a sound one again."""

import shutil
from pathlib import Path

import pytest
from planted_patches import CHANGES

HERE = Path(__file__).parent
TEST = """
from pytest_llmopt import llmopt

@llmopt.variants({variants})
def test_it(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=4)
"""
HEALTHY = 'llmopt.optimization("planted.changes_itself")'


@pytest.fixture(autouse=True)
def planted(project):
    shutil.copy(HERE / "planted_patches.py", project.path / "conftest.py")
    shutil.copy(HERE / "planted.py", project.path / "planted.py")


def write(project, variants):
    entries = ", ".join(f"{name!r}: {mark}" for name, mark in variants.items())
    project.makepyfile(TEST.format(variants=f"{{{entries}}}"))


def by_id(records):
    return {record["nodeid"].rpartition("-")[2].rstrip("]"): record for record in records}


def changing(what, *, when="more"):
    return f'llmopt.optimization("planted.changes_{when}", what={what!r})'


def test_whatever_a_load_changes_is_an_error_that_names_it_and_the_next_test_is_sound(project, records):
    write(project, {what: changing(what) for what in CHANGES} | {"healthy": HEALTHY})
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    found = by_id(records())
    said = {what: record["reason"] for what, record in found.items()}
    assert {what: words for what, (_, words) in CHANGES.items() if words not in said[what]} == {}
    assert {what for what in CHANGES if "the reference changed: " not in said[what]} == set()
    assert {name: record["status"] for name, record in found.items()} == {
        **dict.fromkeys(CHANGES, "ERROR"),
        "healthy": "PASS",
    }
    result.assert_outcomes(errors=len(CHANGES), passed=1)


def test_a_change_during_the_check_leaves_no_pass_and_the_check_is_named(project, records):
    late = ("class_forward_long", "cache_update", "registered_attention", "shared_weights")
    write(project, {what: changing(what, when="late") for what in late} | {"healthy": HEALTHY})
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(failed=len(late), passed=1)
    found = by_id(records())
    assert len(records()) == len(late) + 1
    for what in late:
        assert (found[what]["status"], found[what]["check"]) == ("ERROR", "equivalent")
        assert CHANGES[what][1] in found[what]["reason"]
        assert "after a check of changes_late" in found[what]["reason"]
    assert found["healthy"]["status"] == "PASS"


def test_a_crash_in_the_check_does_not_hide_what_was_changed(project, records):
    write(project, {"crash": 'llmopt.optimization("planted.crashes_late", what="class_forward")', "healthy": HEALTHY})
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(failed=1, passed=1)
    found = by_id(records())
    assert found["crash"]["status"] == "ERROR"
    assert CHANGES["class_forward"][1] in found["crash"]["reason"]
    assert found["healthy"]["status"] == "PASS"


def test_a_candidate_named_before_its_reference_is_loaded_after_it(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.optimization("planted.changes_more", what="class_forward")
        def test_it(prompts, candidate, reference): pass

        @llmopt.optimization("planted.changes_more", what="class_forward")
        def test_again(candidate, reference, prompts): pass
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(errors=2)
    assert all(CHANGES["class_forward"][1] in record["reason"] for record in records())


@pytest.mark.parametrize("what", ["class_forward_long", "module_function", "linear_forward"])
def test_a_reference_that_is_opened_after_a_candidate_changed_it_is_refused(project, records, what):
    """A test without a reference loads none; what was changed then is seen when one is opened."""
    project.makepyfile(f"""
        from pytest_llmopt import llmopt

        @llmopt.optimization("planted.changes_more", what={what!r})
        def test_alone(candidate, prompts):
            llmopt.assert_invariant(candidate, None, prompts, relations=["repeat"])

        @llmopt.optimization("planted.changes_itself")
        def test_together(candidate, reference, prompts):
            llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=2)
    """)
    result = project.runpytest_subprocess("--llmopt-model", "tiny-llama", "-p", "no:benchmark")
    result.assert_outcomes(passed=1, errors=1)
    (alone, together) = records()
    assert alone["status"] == "PASS"
    assert together["status"] == "ERROR"
    assert "the reference changed: before it was loaded" in together["reason"]
    assert CHANGES[what][1].partition(" is now ")[2] in together["reason"]


def test_a_change_of_the_process_is_an_error_without_a_reference_too(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.optimization("planted.changes_more", what="default_dtype")
        def test_alone(candidate, prompts):
            llmopt.assert_invariant(candidate, None, prompts, relations=["repeat"])

        @llmopt.optimization("planted.changes_itself")
        def test_together(candidate, reference, prompts):
            llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=2)
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(errors=1, passed=1)
    assert CHANGES["default_dtype"][1] in records()[0]["reason"]


def test_what_a_test_itself_sets_is_no_change_by_the_candidate(project, records):
    project.makepyfile("""
        import random

        import torch
        from pytest_llmopt import llmopt

        @llmopt.optimization("planted.changes_itself")
        def test_it(candidate, reference, prompts):
            random.seed(3)
            torch.manual_seed(3)
            with torch.no_grad():
                llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=2)
            llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=2)
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-llama").assert_outcomes(passed=1)
    assert [record["status"] for record in records()] == ["PASS", "PASS"]


def test_what_an_earlier_test_left_changed_is_put_back_and_blamed_on_no_other(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.optimization("planted.changes_late", what="class_forward")
        def test_without_a_check(candidate, reference):
            candidate.generate([(1, 2, 3)], llmopt_sampling())

        @llmopt.optimization("planted.changes_itself")
        def test_healthy(candidate, reference, prompts):
            llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=2)

        def llmopt_sampling():
            from pytest_llmopt.core.engine import SamplingParams

            return SamplingParams(max_new_tokens=2)
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*the reference had changed since an earlier test: LlamaMLP.forward is now*"])
    assert [record["status"] for record in records()] == ["PASS"]
