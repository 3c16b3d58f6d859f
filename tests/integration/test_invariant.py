"""Each metamorphic relation sees its planted defect, names the smallest change, and lets healthy models pass."""

import shutil
from pathlib import Path

import pytest

from pytest_llmopt.core.registry import Registry

DEFECTS = {
    "repeat": ("left_over", "", "the second call"),
    "warm_up": ("longest_seen", "", "after an unrelated request of 96 tokens"),
    "prompt_order": ("mixed_rows", "", "the first two swapped"),
    "batch_mates": ("mixed_rows", "", "a batch of 4"),
    "padding": ("position_from_cache", "", "1 tokens of padding (padded to 6)"),
    "prompt_length": ("other_kernel_at", "", "the prompt cut at 33 tokens instead of 31"),
    "cache_size": ("wrong_mask", "unused", "max_new_tokens=40 instead of 4"),
    "prefill_chunk": ("wrong_mask", "top_left", "a prefill in pieces of 32"),
    "edited_prompt": ("stale_prefix", "", "after a prompt with another token at 63"),
    "decoded_prefix": ("lost_late", "", "a text of 272 tokens decoded from its token 8 on instead of prefilled"),
    "entry_points": ("first_logits", "", "a forward with logits of the last tokens only"),
    "later_token": ("wrong_mask", "none", "token 46 of 48 changed"),
    "load_twice": ("random_bias", "", "loaded a second time"),
    "save_reload": ("saved_wrong", "", "loaded from what was saved"),
    "unused_cache": ("wrong_mask", "unused", "unused places filled with 1000"),
}
"""By relation: the planted optimization, its first option, and the smallest change that must be named."""
NEEDS_STATIC_CACHE = {"cache_size", "unused_cache"}


@pytest.fixture(autouse=True)
def planted(project):
    here = Path(__file__).parent
    shutil.copy(here / "planted_state.py", project.path / "conftest.py")
    shutil.copy(here / "planted.py", project.path / "planted.py")


def test_every_relation_has_a_planted_defect():
    assert set(DEFECTS) == set(Registry("relations", "relation").names())


def test_each_relation_sees_its_defect_and_names_the_smallest_change(project, records):
    tests = ["from pytest_llmopt import llmopt"]
    for relation, (name, option, _) in DEFECTS.items():
        marks = [f"@llmopt.optimization('planted.{name}'{f', {option!r}' if option else ''})"]
        marks += ["@llmopt.static_cache()"] if relation in NEEDS_STATIC_CACHE else []
        call = f"llmopt.assert_invariant(candidate, prompts, relations=({relation!r},))"
        tests.append("\n".join([*marks, f"def test_{relation}(candidate, prompts):", f"    {call}"]))
    project.makepyfile("\n\n\n".join(tests))
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(failed=len(DEFECTS))
    by_relation = {record["nodeid"].partition("::test_")[2].partition("[")[0]: record for record in records()}
    for relation, (*_, change) in DEFECTS.items():
        record = by_relation[relation]
        assert record["status"] == "FAIL", relation
        assert f"worst_kl.{relation}" in record["metrics"]
        assert f"{relation} is broken: " in record["reason"]
        assert f"smallest change that breaks it: {change} (" in record["reason"], record["reason"]
        assert "after it (position" in record["reason"]


@pytest.mark.parametrize(
    ("model", "mark", "left"),
    [
        ("tiny-llama", "llmopt.static_cache(max_cache_len=256, reuse=True)", []),
        ("tiny-gemma", "llmopt.optimization('planted.other_order')", ["unused_cache"]),
        ("tiny-qwen", "llmopt.assisted()", ["batch_mates", "padding", "save_reload", "unused_cache"]),
    ],
)
def test_a_healthy_model_passes_and_what_does_not_apply_is_listed(project, records, model, mark, left):
    project.makepyfile(f"""
        from pytest_llmopt import llmopt

        @{mark}
        def test_it(candidate, reference, prompts):
            llmopt.assert_invariant(candidate, prompts, reference=reference)
    """)
    result = project.runpytest_inprocess("--llmopt-model", model)
    result.assert_outcomes(passed=1)
    (record,) = records()
    tried = sorted(set(DEFECTS) - set(left))
    assert record["status"] == "PASS"
    assert sorted(name.partition(".")[2] for name in record["metrics"] if name.startswith("worst_kl.")) == tried
    assert record["evidence"].startswith(f"{len(tried)} relations, ")
    assert record["evidence"].endswith(f"not applicable: {' '.join(left)}") == bool(left)


def test_a_short_row_that_is_padding_for_whole_pieces_is_seen(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.optimization("planted.wrong_mask", "unguarded")
        def test_it(candidate, prompts):
            llmopt.assert_invariant(candidate, prompts, relations=("padding", "prefill_chunk"))
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-llama").assert_outcomes(failed=1)
    (record,) = records()
    assert "prefill_chunk is broken" in record["reason"]
    assert "prompt text of 5 tokens" in record["reason"]
    assert "holding: padding" in record["reason"]


def test_nine_rows_are_decoded_together(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.optimization("planted.mixed_rows", 8)
        def test_it(candidate, prompts):
            llmopt.assert_invariant(candidate, prompts, relations=("batch_mates",))
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-llama").assert_outcomes(failed=1)
    (record,) = records()
    assert "smallest change that breaks it: a batch of 9 (" in record["reason"]


def test_an_engine_that_ends_although_it_should_go_on_is_questioned_all_the_same(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.optimization("planted.ends_at_once")
        def test_it(candidate, prompts):
            llmopt.assert_invariant(candidate, prompts, relations=("repeat",))
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-llama").assert_outcomes(passed=1)
    (record,) = records()
    assert record["evidence"].startswith("1 relations, 6 changes")


def test_a_small_change_everywhere_is_beyond_the_limit_of_the_mean_and_named(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt
        from pytest_llmopt import Limits

        @llmopt.optimization("planted.left_over")
        def test_it(candidate, prompts):
            limits = Limits(tie_margin=0.02, mean_kl=1e-5, worst_kl=100.0)
            llmopt.assert_invariant(candidate, prompts, relations=("repeat",), limits=limits)
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-llama").assert_outcomes(failed=1)
    (record,) = records()
    assert "repeat is broken" in record["reason"]
    assert "holding" not in record["reason"]


def test_nan_in_unused_cache_is_seen_and_what_broke_first_is_named_first(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.optimization("planted.nan_cache")
        def test_it(candidate, prompts):
            llmopt.assert_invariant(candidate, prompts, relations=("later_token", "warm_up", "repeat"))
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-llama").assert_outcomes(failed=1)
    (record,) = records()
    assert record["metrics"]["nonfinite"]["point"] > 0
    reason = record["reason"]
    assert -1 < reason.index("repeat is broken") < reason.index("begin with repeat") < reason.index("holding: later")


def test_a_relation_that_does_not_apply_is_no_pass(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        def test_it(candidate, prompts):
            llmopt.assert_invariant(candidate, prompts, relations=("unused_cache",))
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-llama").assert_outcomes(failed=1)
    (record,) = records()
    assert record["status"] == "INCONCLUSIVE"
    assert "not applicable: unused_cache: its cache grows" in record["reason"]


def test_an_unknown_relation_is_refused_with_those_there_are(project):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        def test_it(candidate, prompts):
            llmopt.assert_invariant(candidate, prompts, relations=("batchmates",))
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*unknown relation 'batchmates'; did you mean 'batch_mates'? Known: batch_mates,*"])
