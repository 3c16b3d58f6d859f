"""Bad markers are refused at collection, with the test, the value and the allowed ones; bad options before that."""

import pytest

BAD_MARKERS = {
    "unknown method": ('@llmopt.quantized("bitsandbites")', ["'bitsandbites'", "did you mean 'bitsandbytes'?"]),
    "no method": ("@llmopt.quantized()", ["quantized needs a name"]),
    "unknown option": ('@llmopt.quantized("bitsandbytes", bit=4)', ["no option 'bit'", "did you mean 'bits'?"]),
    "value": ('@llmopt.quantized("bitsandbytes", bits=3)', ["bits=3", "4, 8"]),
    "value of another type": ('@llmopt.quantized("bitsandbytes", bits="4")', ["bits='4'", "without quotes"]),
    "conflict": ("@llmopt.assisted()\n@llmopt.static_cache()", ["cannot be combined", "rewinds the cache"]),
    "two quantizers": ('@llmopt.quantized("torchao")\n@llmopt.quantized("bitsandbytes")', ["quantized once"]),
    "engine": ('@llmopt.engine("vlllm")', ["unknown engine 'vlllm'", "transformers"]),
    "gpu": ('@llmopt.gpu(memmory="6 GiB")', ["memmory", "memory=, capability=, count="]),
    "gpu memory": ('@llmopt.gpu(memory="lots")', ["'lots' is not a size"]),
    "gpu memory NaN": ('@llmopt.gpu(memory=float("nan"))', ["memory=nan", "6 GiB"]),
    "gpu memory without end": ('@llmopt.gpu(memory="9" * 200 + " GiB")', ["positive and finite", "6 GiB"]),
    "gpu count": ("@llmopt.gpu(count=True)", ["count=True", "a whole number from 1"]),
    "gpu capability": ("@llmopt.gpu(capability=(8, -1))", ["capability=(8, -1)", "8.0 or (8, 0)"]),
    "gpu capability without end": ('@llmopt.gpu(capability="9" * 5000)', ["8.0 or (8, 0)"]),
    "budget": ("@llmopt.budget(decode_sped=2)", ["no option 'decode_sped'", "decode_speedup"]),
    "budget value": ("@llmopt.budget(decode_speedup=-1)", ["decode_speedup=-1"]),
    "budget NaN": ('@llmopt.budget(ttft_ms=float("nan"))', ["ttft_ms=nan", "a finite number above 0"]),
    "against": ('@llmopt.against("eager")', ["against takes optimizations", "'eager'"]),
    "against another type": ("@llmopt.against(device=5)", ["against: device=5", "a text"]),
    "against no engine": ("@llmopt.against(engine=3)", ["against: engine=3", "a text"]),
    "against no model": ("@llmopt.against(model=None)", ["against: model=None", "a text"]),
    "a method like a novel": ('@llmopt.quantized("x" * 9000)', ["unknown quantization method 'xxxx", "...", "gptq"]),
    "an option like a novel": ('@llmopt.static_cache(**{"x" * 9000: 1})', ["has no option 'xxxx", "...", "compile"]),
    "cache": ("@llmopt.static_cache(max_cache_len=0)", ["max_cache_len=0"]),
    "cache as text": ('@llmopt.static_cache(max_cache_len="512")', ["max_cache_len='512'", "without quotes"]),
    "cache without end": ("@llmopt.static_cache(max_cache_len=10**190)", ["max_cache_len=1000", "at most 2147483647"]),
    "drafts": ("@llmopt.assisted(num_draft_tokens=0)", ["num_draft_tokens=0"]),
    "draft": ("@llmopt.assisted(draft=[])", ["draft=[]", "a text"]),
    "too many": ("@llmopt.prompt_lookup(1, 2, 3)", ["at most 2 options", "max_ngram"]),
    "twice": ("@llmopt.prompt_lookup(1, num_draft_tokens=2)", ["'num_draft_tokens' twice"]),
    "truth": ('@llmopt.static_cache(compile="yes")', ["compile='yes'", "True or False"]),
    "mark by hand": ("import pytest\n@pytest.mark.llmopt_statik", ["llmopt_statik"]),
}


@pytest.mark.parametrize("case", BAD_MARKERS)
def test_a_bad_marker_fails_collection_and_names_the_test(run_bad, case):
    markers, words = BAD_MARKERS[case]
    named = "test_it" if "by hand" not in case else "llmopt_statik"
    run_bad([named, *words], "--llmopt-model", "tiny-llama", markers=markers)


def test_a_misspelled_marker_names_the_nearest(run_bad):
    words = ["unknown marker 'static_cach'; did you mean 'static_cache'?"]
    # Python itself asks that a name which a module does not have is an AttributeError.
    run_bad(words, "--llmopt-model", "tiny-llama", markers="@llmopt.static_cach()", allowed=("AttributeError",))


def test_a_test_without_a_model_says_how_to_name_one(run_bad):
    run_bad(["test_it", "no model to test: give --llmopt-model"])


def test_a_bad_test_that_is_not_selected_does_not_stop_the_run(project):
    source = '\nfrom pytest_llmopt import llmopt\n@llmopt.quantized("nope")\ndef test_it(candidate):\n    pass\n'
    project.makepyfile(source + "\ndef test_other():\n    pass\n")
    project.runpytest_inprocess("--llmopt-model", "tiny-llama", "-k", "other").assert_outcomes(passed=1, deselected=1)


SEED = "--llmopt-seed must be a whole number from 0 to 4294967295"
THREADS = "--llmopt-threads must be a whole number from 0 to 1024"
BAD_OPTIONS = {
    "dtype": (["--llmopt-dtype=float8"], ["--llmopt-dtype must be one of"]),
    "seed in words": (["--llmopt-seed=one"], ["--llmopt-seed must be a whole number", "'one'"]),
    "seed below": (["--llmopt-seed=-1"], [SEED, "'-1'"]),
    "seed without end": (["--llmopt-seed=" + "9" * 190], [SEED, "'999", "..."]),
    "seed of thousands of digits": (["--llmopt-seed=" + "9" * 5000], [SEED, "..."]),
    "half a seed": (["--llmopt-seed=1.5"], [SEED, "'1.5'"]),
    "threads below": (["--llmopt-threads=-3"], [THREADS, "'-3'"]),
    "threads beyond": (["--llmopt-threads=99999999"], [THREADS, "'99999999'"]),
    "nothing required": (["--llmopt-require="], ["needs at least one name"]),
    "no model": (["--llmopt-model=,"], ["--llmopt-model needs at least one name"]),
    "no report": (["--llmopt-report="], ["--llmopt-report must be", "''"]),
    "no cache": (["--llmopt-cache="], ["--llmopt-cache must be", "''"]),
    "no engine": (["--llmopt-engine="], ["--llmopt-engine must be", "''"]),
    "inconclusive": (["--llmopt-inconclusive=maybe"], ["must be one of fail, warn", "'maybe'"]),
    "control characters": (["--llmopt-draft=a\x1b[31m"], ["--llmopt-draft must be", "'a\\x1b[31m'"]),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_a_bad_option_is_a_usage_error(run_bad, case):
    options, words = BAD_OPTIONS[case]
    run_bad(words, *options, source="def test_it(): pass", ret=pytest.ExitCode.USAGE_ERROR)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("llmopt_seed = -1", ["llmopt", "seed must be a whole number from 0 to 4294967295", "-1"]),
        ("llmopt_threads = many", ["must be a whole number from 0 to 1024", "many"]),
        ("llmopt_download = perhaps", ["llmopt_download must be true or false"]),
    ],
)
def test_a_bad_ini_value_is_a_usage_error(run_bad, project, line, words):
    project.path.joinpath("tox.ini").write_text(f"[pytest]\n{line}\n")
    run_bad(words, source="def test_it(): pass", ret=pytest.ExitCode.USAGE_ERROR)
