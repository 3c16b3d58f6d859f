"""Bad input is refused at collection, with the test, the value and the allowed ones."""

import pytest

TEST = """
from pytest_llmopt import llmopt

{markers}
def test_it(candidate, reference, prompts):
    raise AssertionError("must not run")
"""

BAD_MARKERS = {
    "unknown method": ('@llmopt.quantized("bitsandbites")', ["'bitsandbites'", "did you mean 'bitsandbytes'?"]),
    "no method": ("@llmopt.quantized()", ["quantized needs a name"]),
    "unknown option": ('@llmopt.quantized("bitsandbytes", bit=4)', ["no option 'bit'", "did you mean 'bits'?"]),
    "value": ('@llmopt.quantized("bitsandbytes", bits=3)', ["bits=3", "4, 8"]),
    "conflict": ("@llmopt.assisted()\n@llmopt.static_cache()", ["cannot be combined", "rewinds the cache"]),
    "two quantizers": ('@llmopt.quantized("torchao")\n@llmopt.quantized("bitsandbytes")', ["quantized once"]),
    "engine": ('@llmopt.engine("vlllm")', ["unknown engine 'vlllm'", "transformers"]),
    "gpu": ('@llmopt.gpu(memmory="6 GiB")', ["memmory", "memory=, capability=, count="]),
    "gpu memory": ('@llmopt.gpu(memory="lots")', ["'lots' is not a size"]),
    "budget": ("@llmopt.budget(decode_sped=2)", ["no option 'decode_sped'", "decode_speedup"]),
    "budget value": ("@llmopt.budget(decode_speedup=-1)", ["decode_speedup=-1"]),
    "against": ('@llmopt.against("eager")', ["against takes optimizations", "'eager'"]),
    "cache": ("@llmopt.static_cache(max_cache_len=0)", ["max_cache_len=0"]),
    "drafts": ("@llmopt.assisted(num_draft_tokens=0)", ["num_draft_tokens=0"]),
    "mark by hand": ("import pytest\n@pytest.mark.llmopt_statik", ["llmopt_statik"]),
}


@pytest.mark.parametrize("case", BAD_MARKERS)
def test_a_bad_marker_fails_collection_and_names_the_test(project, case):
    markers, wanted = BAD_MARKERS[case]
    project.makepyfile(TEST.format(markers=markers))
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    assert result.ret != 0
    text = "\n".join(result.outlines + result.errlines)
    for piece in ["test_it" if "by hand" not in case else "llmopt_statik", *wanted]:
        assert piece in text
    assert "must not run" not in text


def test_a_misspelled_marker_names_the_nearest(project):
    project.makepyfile(TEST.format(markers="@llmopt.static_cach()"))
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.stdout.fnmatch_lines(["*unknown marker 'static_cach'; did you mean 'static_cache'?*"])


def test_a_test_without_a_model_says_how_to_name_one(project):
    project.makepyfile(TEST.format(markers=""))
    result = project.runpytest_inprocess()
    result.stdout.fnmatch_lines(["*test_it*no model to test: give --llmopt-model*"])


def test_a_bad_test_that_is_not_selected_does_not_stop_the_run(project):
    project.makepyfile(TEST.format(markers='@llmopt.quantized("nope")') + "\ndef test_other():\n    pass\n")
    project.runpytest_inprocess("--llmopt-model", "tiny-llama", "-k", "other").assert_outcomes(passed=1, deselected=1)


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("--llmopt-dtype=float8", "--llmopt-dtype must be one of"),
        ("--llmopt-seed=one", "--llmopt-seed must be a whole number"),
        ("--llmopt-require=", "needs at least one name"),
    ],
)
def test_a_bad_option_is_a_usage_error(project, option, wanted):
    project.makepyfile("def test_it(): pass")
    result = project.runpytest_inprocess(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert wanted in "\n".join(result.outlines + result.errlines)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [("", "is empty"), ("{", "prompts.jsonl:1 is not JSON"), ('{"txt": "a"}', "either 'text' or 'token_ids'")],
)
def test_a_bad_prompt_file_is_named_with_its_line(project, content, wanted):
    project.path.joinpath("prompts.jsonl").write_text(content)
    project.makepyfile("def test_it(prompts): pass")
    result = project.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    assert wanted in result.stdout.str()
