"""A candidate that changes its own reference ends in ERROR, which names what; the next test has a sound one again."""

import importlib.util
import shutil
import time
import warnings
from pathlib import Path

import pytest
from planted_patches import CHANGES
from sides import open_side, running_of

from pytest_llmopt.core.errors import UnsoundReferenceError
from pytest_llmopt.core.loading import LoadPolicy, fixtures_folder
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.runtime.guard import TEXT, Guard

INSTANCES = {"shared_weights", "hook_on_another", "method_of_another"}
"""Changes of the reference's own parts: another one has to be loaded."""
HERE = Path(__file__).parent
CHECK = """
from pytest_llmopt import llmopt

@llmopt.variants({variants})
def test_it(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=4)
"""
HEALTHY = 'llmopt.optimization("planted.changes_itself")'


@pytest.fixture
def project(project):
    shutil.copy(HERE / "planted_patches.py", project.path / "conftest.py")
    shutil.copy(HERE / "planted.py", project.path / "planted.py")
    return project


def write(project, variants):
    entries = ", ".join(f"{name!r}: {mark}" for name, mark in variants.items())
    project.makepyfile(CHECK.format(variants=f"{{{entries}}}"))


def by_id(records):
    return {record["nodeid"].rpartition("-")[2].rstrip("]"): record for record in records}


def changing(what, *, when="more"):
    return f'llmopt.optimization("planted.changes_{when}", what={what!r})'


def test_a_change_while_it_is_loaded_is_an_error_and_the_next_test_is_sound(project, records):
    more = ("class_forward", "shared_weights", "default_dtype")
    write(project, {what: changing(what) for what in more} | {"healthy": HEALTHY})
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(errors=len(more), passed=1)
    found = by_id(records())
    assert {name: record["status"] for name, record in found.items()} == {
        **dict.fromkeys(more, "ERROR"),
        "healthy": "PASS",
    }
    for what in more:
        assert f"the reference changed: {CHANGES[what][1]}" in found[what]["reason"].replace("transformers.", "")
        assert f"while changes_more(what={what}) was loaded" in found[what]["reason"]


def test_a_change_during_the_check_leaves_no_pass_and_the_check_is_named(project, records):
    late = ("class_forward_long", "cache_update")
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


def test_a_reference_that_is_opened_after_a_candidate_changed_it_is_refused(project, records):
    """A test without a reference loads none; what was changed then is seen when one is opened."""
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.optimization("planted.changes_more", what="class_forward_long")
        def test_alone(candidate, prompts):
            llmopt.assert_invariant(candidate, prompts, relations=["repeat"])

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
    assert CHANGES["class_forward_long"][1].partition(" is now ")[2] in together["reason"]


def test_a_change_of_the_process_is_an_error_without_a_reference_too(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.optimization("planted.changes_more", what="default_dtype")
        def test_alone(candidate, prompts):
            llmopt.assert_invariant(candidate, prompts, relations=["repeat"])

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
            from pytest_llmopt.core.sampling import SamplingParams

            return SamplingParams(max_new_tokens=2)
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*the reference had changed since an earlier test: LlamaMLP.forward is now*"])
    assert [record["status"] for record in records()] == ["PASS"]


def open_engine(variant):
    return open_side(variant, LoadPolicy())


def guard_over(reference):
    guard = Guard(Registry("engines", "engine"), lambda _engine: True, lambda _since: None)
    assert guard.adopt(reference)
    return guard


def applied(name, **options):
    kind = Registry("optimizations", "optimization").load(name)
    return Applied(name, build(kind, name, (), options))


@pytest.fixture(scope="module")
def reference(libraries):
    engine = open_engine(Variant("tiny-llama"))
    running_of(engine).loaded.model.spared = 1
    return engine


@pytest.fixture(scope="module")
def candidate(libraries):
    return open_engine(Variant("tiny-llama", (applied("decoding.static_cache"),)))


@pytest.mark.parametrize("what", sorted(CHANGES.keys() - INSTANCES))
def test_whatever_all_models_share_is_named_and_put_back(reference, candidate, what):
    change, words = CHANGES[what]
    guard = guard_over(reference)
    with pytest.raises(UnsoundReferenceError) as raised, guard.loading(candidate.variant):
        change(running_of(candidate).loaded.model)
    assert words in str(raised.value)
    assert str(raised.value).startswith("the reference changed: ")
    # It answers as before and runs no code of others; and the candidate is not loaded a second time.
    assert guard.adopt(reference)
    with guard.watching("now", (candidate.variant,)):
        pass
    with pytest.raises(UnsoundReferenceError), guard.loading(candidate.variant):
        pytest.fail("it was loaded again")


@pytest.mark.parametrize("what", sorted(INSTANCES))
def test_whatever_a_reference_holds_is_named_and_another_one_is_needed(candidate, what):
    change, words = CHANGES[what]
    reference = open_engine(Variant("tiny-llama"))
    guard = guard_over(reference)
    with pytest.raises(UnsoundReferenceError) as raised, guard.watching("now", (candidate.variant,)):
        change(running_of(candidate).loaded.model)
    assert words in str(raised.value)
    assert guard.adopt(open_engine(Variant("tiny-llama")))


@pytest.mark.parametrize("what", ["class_forward_long", "module_function", "linear_forward", "cache_update"])
def test_what_was_changed_before_is_seen_in_the_reference_itself(reference, candidate, what):
    change, words = CHANGES[what]
    guard = guard_over(reference)

    def changed_first():
        with guard.watching("now", (candidate.variant,)):
            change(running_of(candidate).loaded.model)
            with pytest.raises(UnsoundReferenceError, match="before it was loaded") as raised:
                guard_over(reference)
            assert words.partition(" is now ")[2] in str(raised.value)

    with pytest.raises(UnsoundReferenceError, match="now"):
        changed_first()


def test_a_kernel_behind_the_back_of_python_is_seen_when_it_runs(reference, candidate):
    import torch

    def silu(given):
        return given * given.sigmoid()

    guard = guard_over(reference)
    library = torch.library.Library("aten", "IMPL")

    def register():
        with guard.watching("now", (candidate.variant,)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            library.impl("silu", silu, "CPU")

    with pytest.raises(UnsoundReferenceError, match=r"it runs silu of test_guard.py"):
        register()
    # Nobody can put that back: what is loaded next is refused until it is gone.
    with pytest.raises(UnsoundReferenceError, match="before it was loaded, it runs silu"):
        guard.adopt(reference)
    library._destroy()
    assert guard.adopt(reference)


def test_a_reference_that_answers_otherwise_after_all_was_put_back_is_refused(candidate):
    reference = open_engine(Variant("tiny-llama"))
    guard = guard_over(reference)
    with pytest.raises(UnsoundReferenceError, match="own weights"), guard.watching("now", (candidate.variant,)):
        running_of(reference).loaded.model.model.norm.weight.data *= 1.01
    with pytest.raises(UnsoundReferenceError, match="This process cannot be restored"):
        guard.adopt(reference)


@pytest.mark.filterwarnings("ignore")  # what these libraries say while they are imported and dropped is theirs
def test_libraries_that_patch_on_import_and_candidates_that_work_change_no_reference(reference):
    """Real ones, in one process: what they replace does not run in the reference, or hands on to what was there."""
    kinds = {
        "bitsandbytes": applied("quantization.bitsandbytes"),
        "torchao": applied("quantization.torchao", scheme="int8_weight_only"),
        "hqq": applied("quantization.hqq", bits=4),
        "optimum.quanto": applied("quantization.quanto", weights="int8"),
        "peft": applied("adapters.lora", adapter="tiny-llama-lora"),
        "gptqmodel": applied("quantization.configured", checkpoint=str(fixtures_folder() / "models/tiny-llama-gptq")),
        "torch": applied("decoding.assisted", draft="tiny-llama-draft"),
    }
    there = {name: item for name, item in kinds.items() if importlib.util.find_spec(name.partition(".")[0])}
    assert len(there) > 1
    guard = guard_over(reference)
    for item in there.values():
        variant = Variant("tiny-llama", (item,))
        with guard.loading(variant):
            engine = open_engine(variant)
        with guard.watching("while it ran", (variant,)):
            tokens = engine.encode("import os\nfor name in")
            engine.generate([tokens], SamplingParams(max_new_tokens=3))
            engine.score([Continuation(tokens[:2], tokens[2:])])
            engine.inspect()
        engine.close()


def test_proving_it_costs_little(reference, candidate):
    """Against a check that decodes some hundred tokens and scores them; a share of the time, so for any machine."""
    guard = guard_over(reference)
    prompt = reference.encode(TEXT)[:16]
    started = time.process_time()
    for engine in (candidate, reference):
        generations = engine.generate([prompt] * 8, SamplingParams(max_new_tokens=64, ignore_eos=True))
        reference.score([item.continuation for item in generations])
    checked = time.process_time()
    with guard.watching("now", (candidate.variant,)):
        pass
    assert time.process_time() - checked < 0.5 * (checked - started)
