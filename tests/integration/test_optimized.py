"""What is not in effect is found out, what says nothing of itself is INCONCLUSIVE, what works passes."""

import shutil
from pathlib import Path

import pytest

SILENT = {
    "unquantized": ('llmopt.quantized("silently_unquantized")', {"packed", "unquantized_types", "kl_divergence"}),
    "dynamic": ('llmopt.optimization("planted.silently_dynamic")', {"fixed_layers"}),
    "other_length": (
        '[llmopt.optimization("planted.silently_dynamic", max_cache_len=128)]',
        {"fixed_layers", "cache_length"},
    ),
    "eager_step": (
        'llmopt.optimization("planted.silently_dynamic", compile=True)',
        {"fixed_layers", "graphs", "eager_passes"},
    ),
    "not_consulted": ('llmopt.optimization("planted.never_consulted")', {"drafted_tokens", "accepted_tokens"}),
    "cautious": ('llmopt.optimization("planted.cautious_draft")', {"short_blocks"}),
    "not_called": ('llmopt.optimization("planted.other_attention")', {"called"}),
    "prompt_twice": ('llmopt.optimization("planted.prompt_twice")', {"redundant_tokens"}),
    "without_cache": ('llmopt.optimization("planted.without_cache")', {"redundant_tokens"}),
    "every_logit": ('llmopt.optimization("planted.every_logit")', {"redundant_logits"}),
    "every_cache": ('llmopt.optimization("planted.every_cache")', {"kept_bytes"}),
    "unpacked_first": ('llmopt.quantized("unpacked_first")', {"bypassed_kernels"}),
    "twice_the_room": ('llmopt.optimization("planted.twice_the_room")', {"cache_length"}),
}
"""By test id: the optimization that is not in effect, and the claims that must be found untrue."""
WORKING = {
    "nf4": 'llmopt.quantized("bitsandbytes")',
    "int8": 'llmopt.quantized("torchao")',
    "static": "llmopt.static_cache(max_cache_len=256, reuse=True)",
    "static_of_any_length": "llmopt.static_cache()",
    "assisted": "llmopt.assisted()",
    "prompt_lookup": "llmopt.prompt_lookup(3)",
    "many_drafts": "llmopt.assisted(num_draft_tokens=12)",
    "eager": 'llmopt.attention("eager")',
    "last_cache": 'llmopt.optimization("planted.last_cache")',
    "stacked": '[llmopt.quantized("torchao"), llmopt.static_cache(), llmopt.attention("eager")]',
}


@pytest.fixture(autouse=True)
def planted(project):
    here = Path(__file__).parent
    shutil.copy(here / "planted_state.py", project.path / "conftest.py")
    shutil.copy(here / "planted.py", project.path / "planted.py")


def write(project, variants):
    entries = "\n".join(f"    {name!r}: {mark}," for name, mark in variants.items())
    project.makepyfile(
        f"from pytest_llmopt import llmopt\n\n\n@llmopt.variants({{\n{entries}\n}})\n"
        "def test_it(candidate, reference, prompts):\n"
        "    llmopt.assert_optimized(candidate, reference, prompts)\n"
    )


def by_id(records):
    return {record["nodeid"].rpartition("[")[2].rstrip("]").rpartition("tiny-qwen-")[2]: record for record in records}


def failed_claims(record):
    """The claims that the reason names, one per line after the metrics."""
    return {line.partition(" ")[0].partition(".")[2] for line in record["reason"].splitlines() if ": FAIL" in line}


def test_what_is_not_in_effect_fails_and_the_message_says_what_is_the_matter(project, records):
    write(project, {name: mark for name, (mark, _) in SILENT.items()})
    result = project.runpytest_inprocess("--llmopt-model", "tiny-qwen")
    result.assert_outcomes(failed=len(SILENT))
    found = by_id(records())
    assert {name: failed_claims(record) for name, record in found.items()} == {
        name: claims
        | ({"bytes_per_weight", "sqnr_excess", "excess_levels", "packed_share"} if name == "unquantized" else set())
        for name, (_, claims) in SILENT.items()
    }
    for name, line in {
        "unquantized": "too good: it differs from the reference by no more than rounding",
        "dynamic": "the cache in use, DynamicCache, grows with the tokens in 4 of 4 layers",
        "eager_step": "nothing was compiled",
        "not_consulted": "no draft was ever proposed",
        "cautious": "fewer proposals than num_draft_tokens=5 allows",
        "not_called": "layers call eager instead of sdpa",
        "prompt_twice": "5 passes of 39 + 39 + 1 + 1 + 1 tokens",
        "every_cache": "every equal call leaves tensors alive, and so memory grows without end: 8 x float32 [4, ",
    }.items():
        assert line in found[name]["reason"]


@pytest.mark.parametrize("model", ["tiny-qwen"])
def test_what_is_in_effect_passes(project, records, model):
    write(project, WORKING)
    result = project.runpytest_inprocess("--llmopt-model", model)
    result.assert_outcomes(passed=len(WORKING))
    found = by_id(records())
    assert {record["status"] for record in found.values()} == {"PASS"}
    assert found["nf4"]["metrics"]["bitsandbytes.bytes_per_weight"]["point"] < 0.6
    assert found["static"]["metrics"]["static_cache.cache_length"]["point"] == 256
    assert found["assisted"]["metrics"]["assisted.accepted_tokens"]["point"] > 0
    assert found["assisted"]["metrics"]["assisted.short_blocks"]["point"] == 0
    assert found["stacked"]["evidence"].startswith("26 of 26 claims true")


def test_an_optimization_without_claims_is_inconclusive_and_says_how_to_mend_it(project, records):
    write(project, {"other_order": 'llmopt.optimization("planted.other_order")', "plain": "[]"})
    project.runpytest_inprocess("--llmopt-model", "tiny-qwen").assert_outcomes(failed=2)
    found = by_id(records())
    assert {record["status"] for record in found.values()} == {"INCONCLUSIVE"}
    assert "give it a method `claims(self, use)`" in found["other_order"]["reason"]
    assert found["plain"]["evidence"] == "no optimization to look for"


PARTLY = {"partly": '[llmopt.static_cache(), llmopt.optimization("planted.other_order")]'}
"""Two optimizations, of which one says nothing of itself."""


def test_what_says_nothing_beside_what_does_is_named_in_the_table_and_passes(project, records):
    write(project, PARTLY)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-qwen")
    result.assert_outcomes(passed=1)
    (record,) = records()
    assert (record["status"], record["outcome"], record["reason"]) == ("PASS", "passed", "")
    assert list(record["not_judged"]) == ["other_order in effect"]
    result.stdout.fnmatch_lines(["optimized *PASS *; not judged: other_order in effect*"])


@pytest.mark.parametrize("more", [(), ("--llmopt-inconclusive", "warn")])
def test_required_evidence_fails_it_and_the_record_agrees(project, records, more):
    write(project, PARTLY)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-qwen", "--llmopt-require", "evidence", *more)
    result.assert_outcomes(failed=1)
    (record,) = records()
    assert (record["status"], record["outcome"]) == ("FAIL", "failed")
    assert record["metrics"]["not_judged"]["status"] == "FAIL"
    assert "not judged: other_order in effect: it does not say" in record["reason"]
    line = "*not judged: other_order in effect: it does not say how one can see that: give it a method*"
    result.stdout.fnmatch_lines(["*optimized FAIL: not_judged 1 parts, at most 0 parts", line])
