"""What pytest and its plugins do with tests of ours is what they do with any other."""

import json
import re
import subprocess
import sys

import pytest

from pytest_llmopt.core.loading import suites_folder

HEAD = "import pytest\nfrom pytest_llmopt import llmopt\n"
MANY = (
    HEAD
    + """
@pytest.mark.parametrize("level", [1, 2])
class TestFirst:
    def test_a(self, candidate, level): pass

    @llmopt.optimization("mine.exotic")
    def test_b(self, candidate, level): pass

    def test_c(self, candidate, level): pass

def test_other(): pass

@llmopt.optimization("mine.exotic")
def test_d(candidate): pass
"""
)
COLLECTED = ["a1", "a2", "b1", "b2", "c1", "c2", "other", "d"]
GROUPED = ["a1", "a2", "c1", "c2", "b1", "b2", "other", "d"]
"""The tests of one variant together; the test of nobody's stays in its place."""
REVERSING = """
import pytest

@pytest.hookimpl({how})
def pytest_collection_modifyitems(items):
    {body}
"""


def order_of(result):
    """The tests in the order in which they are to run, by short names."""
    names = [line.rpartition("::")[2] for line in result.outlines if re.match(r"test_\S+::", line)]
    return [re.sub(r"\[(?:tiny-llama-?)?(\d?)\]", r"\1", name.removeprefix("test_")) for name in names]


@pytest.fixture
def collect(rules):
    """A function that gives the order of the tests under some options, with plugins of its own."""

    def collect(*options, plugin=None):
        rules.makepyfile(test_many=MANY)
        if plugin is not None:
            rules.makepyfile(reorders=plugin)
            rules.syspathinsert()
            options = ("-p", "reorders", *options)
        return order_of(rules.runpytest_inprocess("--collect-only", "-q", "test_many.py", *options))

    return collect


# Order


SHUFFLING = """
def pytest_addoption(parser):
    parser.addoption("--shuffles", action="store_true", dest="randomly_reorganize")
"""


def test_under_pytest_randomly_tests_stay_with_their_module_for_it_to_shuffle(collect):
    assert collect("--shuffles", plugin=SHUFFLING) == COLLECTED
    assert collect(plugin=SHUFFLING) == GROUPED


def test_tests_of_a_variant_are_brought_together(collect):
    assert collect() == GROUPED


@pytest.mark.parametrize(
    ("how", "body"),
    [
        ("", "items.reverse()"),
        ("tryfirst=True", "items.reverse()"),
        ("trylast=True", "items.reverse()"),
        ("wrapper=True", "items.reverse(); return (yield)"),
        ("wrapper=True, tryfirst=True", "items.reverse(); return (yield)"),  # as pytest-randomly does
        ("wrapper=True, tryfirst=True", "result = yield; items.reverse(); return result"),
    ],
    ids=["plain", "first", "last", "before", "before all", "after all"],
)
def test_whoever_orders_tests_has_the_last_word(collect, how, body):
    assert collect(plugin=REVERSING.format(how=how, body=body)) == GROUPED[::-1]


def test_a_conftest_that_orders_tests_has_the_last_word(rules, collect):
    with rules.path.joinpath("conftest.py").open("a") as file:
        file.write("\ndef pytest_collection_modifyitems(items):\n    items.sort(key=lambda item: item.name)\n")
    assert collect() == ["a1", "a2", "b1", "b2", "c1", "c2", "d", "other"]


def write_with_failure(rules):
    """A file whose third test fails until there is a file `healthy`; all others skip before a model is loaded."""
    rules.makepyfile(
        test_many=HEAD
        + """
import os
SMALL, LARGE = llmopt.static_cache(max_cache_len=64), llmopt.static_cache(max_cache_len=128)

@pytest.fixture(autouse=True)
def check(request):
    if "sick" in request.node.name and not os.path.exists("healthy"):
        raise ValueError("sick")
    pytest.skip("well")

@SMALL
def test_one(candidate): pass

@LARGE
def test_two(candidate): pass

@SMALL
def test_sick(candidate): pass

def test_other(): pass

@LARGE
def test_four(candidate): pass
"""
    )


ARRANGED = ["one", "sick", "two", "other", "four"]


def ran(result):
    """The tests that ran, in order."""
    lines = [line for line in result.outlines if re.match(r"test_many.py::\S+ (PASS|SKIP|ERR|FAIL)", line)]
    return [re.sub(r"\[.*", "", line.split()[0].rpartition("::")[2]).removeprefix("test_") for line in lines]


def test_stepwise_goes_on_where_it_stopped_and_leaves_out_nothing(rules):
    write_with_failure(rules)
    assert ran(rules.runpytest_inprocess("--sw", "-v")) == ARRANGED[:2]
    assert ran(rules.runpytest_inprocess("--sw", "-v")) == ["sick"]
    rules.path.joinpath("healthy").touch()
    last = rules.runpytest_inprocess("--sw", "-v")
    assert ran(last) == ARRANGED[1:]
    last.assert_outcomes(skipped=4, deselected=1)


def test_failed_first_and_last_failed_and_new_first(rules):
    write_with_failure(rules)
    rules.makepyfile(test_new="def test_new(): pass")
    assert ran(rules.runpytest_inprocess("-v", "test_many.py")) == ARRANGED
    assert ran(rules.runpytest_inprocess("--ff", "-v", "test_many.py")) == ["sick", "one", "two", "other", "four"]
    assert ran(rules.runpytest_inprocess("--lf", "-v")) == ["sick"]
    result = rules.runpytest_inprocess("--nf", "--collect-only", "-q")
    assert order_of(result)[0] == "new"
    assert order_of(result)[1:] == ARRANGED


def test_bad_markers_of_tests_that_do_not_run_stop_nothing(rules):
    rules.makepyfile(
        test_it=HEAD
        + """
@llmopt.quantized("nope")
def test_bad(candidate): pass
def test_good(): pass
def test_failing(): raise AssertionError
"""
    )
    for options in (["-k", "good"], ["--deselect", "test_it.py::test_bad"], ["test_it.py::test_good"]):
        assert rules.runpytest_inprocess(*options).ret in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    rules.runpytest_inprocess("--deselect", "test_it.py::test_bad").assert_outcomes(passed=1, failed=1, deselected=1)
    rules.runpytest_inprocess("--lf").assert_outcomes(failed=1)
    # A test without a model is no error either where it does not run.
    rules.makeini("[pytest]\n")
    rules.runpytest_inprocess("-k", "good").assert_outcomes(passed=1, deselected=2)


# Errors of collection


BAD = {
    "test_one": HEAD + '@llmopt.quantized("nope")\ndef test_bad(candidate): pass\n',
    "test_two": HEAD
    + "@llmopt.static_cache(max_cache_len=0)\ndef test_bad(candidate): pass\n"
    + 'def test_good():\n    open("ran", "w").close()\n',
}
WORDS = ("unknown quantization method 'nope'", "max_cache_len=0")


@pytest.mark.parametrize("workers", [[], ["-n", "2"], ["-n", "2", "--dist", "loadgroup"]], ids=["one", "two", "groups"])
def test_bad_markers_are_told_once_each_and_nothing_runs(rules, workers):
    rules.makepyfile(**BAD)
    result = rules.runpytest_subprocess(*workers)
    text = result.stdout.str() + result.stderr.str()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "INTERNALERROR" not in text
    for words, name in zip(WORDS, ("test_one.py::test_bad", "test_two.py::test_bad"), strict=True):
        told = [line for line in result.outlines if words in line and not line.startswith("ERROR ")]
        assert len(told) == 1
        assert told[0].startswith(name)
        (summary,) = [line for line in result.outlines if line.startswith(f"ERROR {name}")]
        # The reason, and not the name once more, as far as 80 columns go.
        assert words[:5] in summary
    assert "@" not in text.partition("short test summary")[2]
    assert not rules.path.joinpath("ran").exists()


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one", "two"])
def test_pytest_may_go_on_in_spite_of_bad_markers(rules, workers):
    rules.makepyfile(**BAD)
    result = rules.runpytest_subprocess("--continue-on-collection-errors", *workers)
    result.assert_outcomes(passed=1, errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_groups_of_the_users_own_stay_what_they_are(rules):
    rules.makepyfile(
        test_it=HEAD
        + """
EXOTIC = llmopt.optimization("mine.exotic")

@EXOTIC
@pytest.mark.xdist_group("own")
def test_own(candidate): pass

@EXOTIC
@pytest.mark.xdist_group(name="named")
def test_named(candidate): pass

@EXOTIC
def test_ours(candidate): pass
"""
    )
    result = rules.runpytest_subprocess("-n", "1", "--dist", "loadgroup", "-v", "-p", "no:benchmark")
    result.assert_outcomes(skipped=3)
    groups = {line.split()[-1].rpartition("@")[2] for line in result.outlines if "SKIPPED test_it.py" in line}
    assert {"own", "named"} < groups
    report = json.loads(rules.path.joinpath(".llmopt/report.json").read_text())
    names = {record["nodeid"].rpartition("::")[2] for record in report["records"]}
    assert names == {"test_own[tiny-llama]", "test_named[tiny-llama]", "test_ours[tiny-llama]"}


def test_a_misspelled_requirement_is_told_under_xdist_as_well(rules):
    rules.makepyfile(test_it=HEAD + "@llmopt.gpu\ndef test_it(): pass\n")
    result = rules.runpytest_subprocess("-n", "1", "--llmopt-require", "gpuu")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "unknown --llmopt-require 'gpuu'; did you mean 'gpu'?" in result.stdout.str()
    assert "INTERNALERROR" not in result.stdout.str()


def test_bad_markers_are_errors_in_junit_and_last_failed(rules):
    rules.makepyfile(**BAD)
    result = rules.runpytest_inprocess("--junitxml", "junit.xml", "-x", "--maxfail=5")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    junit = rules.path.joinpath("junit.xml").read_text()
    assert 'errors="2"' in junit
    assert "collection failure" in junit
    rules.makepyfile(test_one="def test_bad(): pass")
    again = rules.runpytest_inprocess("--lf", "test_one.py")
    again.assert_outcomes(passed=1)


# Other options and plugins

ASKS = HEAD + '@llmopt.optimization("mine.exotic")\ndef test_it(candidate, prompts): pass\ndef test_other(): pass\n'
QUIET = [
    (["--collect-only"], {}),
    (["--collect-only", "-q"], {}),
    (["--fixtures"], {}),
    (["--fixtures-per-test"], {}),
    (["--markers"], {}),
    (["--setup-plan"], {"skipped": 1}),
    (["--setup-only"], {"skipped": 1}),
    (["--setup-show"], {"skipped": 1, "passed": 1}),
    (["-p", "no:cacheprovider"], {"skipped": 1, "passed": 1}),
    (["-p", "no:terminal"], None),
    (["-p", "no:terminalreporter"], None),
    (["-p", "no:warnings"], {"skipped": 1, "passed": 1}),
    (["-p", "no:logging", "-p", "no:junitxml", "-p", "no:pastebin"], {"skipped": 1, "passed": 1}),
    (["-p", "no:xdist"], {"skipped": 1, "passed": 1}),
    (["-p", "no:skipping"], None),
    (["-p", "no:stepwise", "-p", "no:faulthandler"], {"skipped": 1, "passed": 1}),
    (["--import-mode=importlib"], {"skipped": 1, "passed": 1}),
    (["--import-mode=append", "-W", "error"], {"skipped": 1, "passed": 1}),
    (["--strict-config", "--strict-markers"], {"skipped": 1, "passed": 1}),
    (["-k", "llmopt"], {"skipped": 1, "deselected": 1}),
    (["-m", "llmopt_optimization"], {"skipped": 1, "deselected": 1}),
    (["-m", "not llmopt_optimization"], {"passed": 1, "deselected": 1}),
    (["--pyargs", "test_it"], {"skipped": 1, "passed": 1}),
    (["test_it.py::test_it[tiny-llama]"], {"skipped": 1}),
    (["--color=yes", "-vv", "-rA"], {"skipped": 1, "passed": 1}),
    (["-s", "--tb=native", "--durations=3"], {"skipped": 1, "passed": 1}),
]


@pytest.mark.parametrize(("options", "outcomes"), QUIET, ids=[" ".join(options) for options, _ in QUIET])
def test_options_of_pytest_have_their_usual_outcome(rules, options, outcomes):
    rules.makepyfile(test_it=ASKS)
    rules.syspathinsert()
    result = rules.runpytest_inprocess(*options)
    assert result.ret == pytest.ExitCode.OK, result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    if outcomes:
        result.assert_outcomes(**outcomes)


@pytest.mark.parametrize("option", ["--setup-plan", "--collect-only", "--fixtures-per-test"])
def test_no_model_is_loaded_where_pytest_runs_no_fixture(rules, option):
    rules.makepyfile(test_it=HEAD + "@llmopt.static_cache()\ndef test_it(candidate, reference): pass\n")
    result = rules.runpytest_inprocess(option, "--llmopt-model", "./no-model-is-here")
    assert result.ret == pytest.ExitCode.OK
    if option != "--fixtures-per-test":
        result.stdout.fnmatch_lines(["*test_it*no-model-is-here*"])


def test_a_session_without_autoloaded_plugins(rules, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    rules.makeini("[pytest]\nllmopt_model = tiny-llama\n")
    rules.makepyfile(test_it=ASKS)
    for name in ("pytest_llmopt.plugin", "llmopt"):
        result = rules.runpytest_subprocess("-p", name, "-W", "error")
        result.assert_outcomes(passed=1, skipped=1)


def test_without_the_plugin_our_marks_are_plain_unknown_marks(rules):
    rules.makeini("[pytest]\naddopts = -p no:hypothesispytest -p no:anyio -p no:benchmark\n")
    rules.makeconftest("")
    rules.makepyfile(test_it=HEAD + "@llmopt.static_cache()\ndef test_it(): pass\ndef test_side(candidate): pass\n")
    # In a process of its own: this one knows the marks already.
    result = rules.runpytest_subprocess("-p", "no:llmopt")
    result.assert_outcomes(passed=1, errors=1, warnings=1)
    result.stdout.fnmatch_lines(["*fixture 'candidate' not found*", "*Unknown pytest.mark.llmopt_static_cache*"])


def test_tests_of_other_kinds_run_beside_ours(rules):
    rules.makepyfile(
        test_it=ASKS
        + '''
import unittest

class TestPlain(unittest.TestCase):
    def test_it(self): pass

@llmopt.gpu
class TestGpu(unittest.TestCase):
    def test_it(self): raise AssertionError("must be skipped")

def documented():
    """
    >>> documented()
    1
    """
    return 1
'''
    )
    result = rules.runpytest_inprocess("--doctest-modules", "-k", "not TestGpu")
    result.assert_outcomes(passed=3, skipped=1, deselected=1)


def test_an_order_by_parameters_of_wider_fixtures_is_kept(rules):
    rules.makepyfile(
        test_it=HEAD
        + """
@pytest.fixture(scope="module", params=[1, 2])
def wide(request): return request.param

@llmopt.optimization("mine.exotic")
def test_a(wide, candidate): pass

@llmopt.optimization("mine.exotic", 2)
def test_b(wide, candidate): pass
"""
    )
    result = rules.runpytest_inprocess("--collect-only", "-q")
    assert order_of(result) == ["a1", "b1", "a2", "b2"]


def test_a_run_without_tests_of_ours_is_left_alone(rules):
    rules.makepyfile(test_it="import pytest\n@pytest.mark.parametrize('x', [2, 1])\ndef test_it(x): pass\n")
    result = rules.runpytest_inprocess("-v")
    result.assert_outcomes(passed=2)
    assert "llmopt verdicts" not in result.stdout.str()


def test_the_suites_are_collected_by_plain_pytest_too():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--llmopt-model", "tiny-llama"]
    command += [
        "-c",
        str(suites_folder() / "pytest.ini"),
        str(suites_folder() / "equivalence"),
        "-p",
        "no:cacheprovider",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=suites_folder())
    assert result.returncode == 0, result.stdout + result.stderr
