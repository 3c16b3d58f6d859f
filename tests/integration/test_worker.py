"""A candidate in a process of its own cannot take the run down: its end is told, the next test is none the worse."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from bigram import FAULTS, LATER

HERE = Path(__file__).parent
OF = "LLMOPT_WORKERS_OF"
HEAD = """
import time
from pytest_llmopt import llmopt
pytestmark = llmopt.engine("bigram")
"""
BOTH = """
@llmopt.isolated()
@llmopt.optimization("planted.fault", what={what!r}{more})
def test_{name}(candidate, reference, prompts):
    time.sleep({wait_s})
    llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=8)

@llmopt.isolated()
@llmopt.optimization("planted.fault")
def test_after_{name}(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=8)
"""


def workers(of):
    """Processes of workers that a test has started, told from those of others by a variable."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        with contextlib.suppress(psutil.Error):
            ours = "runtime.worker.main" in " ".join(process.info["cmdline"] or ()) and process.environ().get(OF) == of
            if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def gone(of, patience=10.0):
    """Whether every worker of a test is gone."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if not workers(of):
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def own(monkeypatch, tmp_path):
    """What tells the workers of this test from those of others."""
    monkeypatch.setenv(OF, str(tmp_path))
    return str(tmp_path)


@pytest.fixture
def run(project, own):
    """A function that runs faults through pytest, each before a sound candidate; gives the records by test."""
    project.makeconftest((HERE / "bigram.py").read_text())

    def run_(faults, *options, more="", wait_s=0.0):
        body = "".join(BOTH.format(what=name, name=name, more=more, wait_s=wait_s) for name in faults)
        project.makepyfile(HEAD + body)
        result = project.runpytest_subprocess("--llmopt-model", "tiny-llama", *options)
        content = json.loads(project.path.joinpath(".llmopt/report.json").read_text())
        assert content["finished"]
        assert gone(own)
        return result, {item["nodeid"].partition("::test_")[2].partition("[")[0]: item for item in content["records"]}

    return run_


HALVES = [sorted(FAULTS)[::2], sorted(FAULTS)[1::2]]


@pytest.mark.parametrize("faults", HALVES, ids=["one half", "the other half"])
def test_every_fault_is_that_tests_own_and_says_what_happened(run, faults):
    result, records = run(faults, "--llmopt-timeout", "12")
    result.assert_outcomes(passed=len(faults), failed=len(faults))
    for name in faults:
        assert records[name]["status"] == "ERROR"
        assert FAULTS[name][1] in records[name]["reason"], name
        assert records[f"after_{name}"]["status"] == "PASS"
    answered = [name for name in faults if name.startswith("answers_")]
    assert {records[name]["error"] for name in answered} <= {"AnswerError"}
    assert {records[name]["error"] for name in set(faults) - set(answered)} == {"WorkerError"}


def test_what_it_printed_last_is_in_the_message_and_no_more(run):
    _, records = run(["prints_megabytes"])
    reason = records["prints_megabytes"]["reason"]
    assert "the last that it printed" in reason
    assert 200 < len(reason) < 8_000


def test_faults_while_loading_are_told_so(run):
    result, records = run(["segfault", "raises"], more=", at_load=True")
    result.assert_outcomes(passed=2, errors=2)
    assert "SIGSEGV (a segmentation fault) while loading fault" in records["segfault"]["reason"]
    assert "a kernel says no" in records["raises"]["reason"]


def test_a_worker_that_dies_between_two_requests_is_told_at_the_next(run):
    result, records = run([LATER], wait_s=1.0)
    result.assert_outcomes(passed=1, failed=1)
    assert "ended with exit code 9 while answering " in records[LATER]["reason"]
    assert records[f"after_{LATER}"]["status"] == "PASS"


def test_everything_isolated_gives_the_same_records_as_in_process(project):
    project.makeconftest((HERE / "bigram.py").read_text())
    project.makepyfile(
        HEAD
        + """
@llmopt.optimization("planted.fault")
def test_it(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=8)
"""
    )
    metrics = []
    for options in ([], ["--llmopt-isolate"]):
        project.runpytest_subprocess("--llmopt-model", "tiny-llama", *options).assert_outcomes(passed=1)
        (record,) = json.loads(project.path.joinpath(".llmopt/report.json").read_text())["records"]
        metrics.append((record["status"], record["metrics"], record["variant"], record["evidence"]))
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_run(project, own, how):
    project.makeconftest((HERE / "bigram.py").read_text())
    project.makepyfile(HEAD + BOTH.format(what="hangs", name="hangs", more="", wait_s=0.0))
    command = [sys.executable, "-m", "pytest", "--llmopt-model", "tiny-llama", "-p", "no:cacheprovider"]
    process = subprocess.Popen(command, cwd=project.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not workers(own) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1.0)
    assert workers(own), "a worker is there and hangs"
    os.kill(process.pid, how)
    process.wait(30)
    assert gone(own)


def test_a_worker_needs_no_more_than_numpy_and_packaging(tmp_path):
    blocked = ("pytest", "rich", "scipy", "psutil", "typer", "pluggy", "jinja2")
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import pytest_llmopt.runtime.worker.main
import pytest_llmopt.engines.transformers
from pytest_llmopt.core.registry import Registry
optimizations = Registry("optimizations", "optimization")
for name in optimizations.names():
    optimizations.load(name)
print("well")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "well", done.stderr


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


BAD = {
    "nowhere": ("bigram=/no/such/python", ["'/no/such/python'", "give the path of a"]),
    "a word": ("bigram", ["says no interpreter", "ENGINE=/path/to/python"]),
    "no engine": ("vlllm=python3", ["no engine 'vlllm'", "bigram"]),
    "no Python": ("bigram=sh", ["is no Python that runs", "give the path"]),
    "not made": ("bigram=transformers-previous", ["not made yet", "llmopt env create transformers-previous"]),
    "half of one": ("bigram=SCRIPT:echo hello", ["is no Python that runs"]),
    "too old": ('bigram=SCRIPT:echo \'{"version": [3, 8, 1], "missing": []}\'', ["Python 3.8.1", "3.11 is the oldest"]),
    "without NumPy": (
        'bigram=SCRIPT:echo \'{"version": [3, 12, 1], "missing": ["numpy"]}\'',
        ["lacks numpy", "-m pip install numpy"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_an_interpreter_that_will_not_do_ends_the_run_before_any_test(project, tmp_path, monkeypatch, case):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    given, words = BAD[case]
    engine, _, text = given.partition("SCRIPT:")
    given = engine + script(tmp_path / "python", text) if text else given
    project.makeconftest((HERE / "bigram.py").read_text())
    project.makepyfile(HEAD + "def test_it(candidate): raise SystemExit('must not run')")
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama", "--llmopt-python", given)
    told = "\n".join(result.outlines + result.errlines)
    assert result.ret != 0
    for word in words:
        assert word in told
    assert "must not run" not in told.replace("raise SystemExit('must not run')", "")
    assert "Traceback" not in told


def test_an_interpreter_that_answers_and_is_no_worker_is_an_error_of_the_test(project, tmp_path):
    lying = """case "$2" in *find_spec*) echo '{"version": [3, 12, 1], "missing": []}';; *) echo gone; exit 5;; esac"""
    given = script(tmp_path / "python", lying)
    project.makeconftest((HERE / "bigram.py").read_text())
    project.makepyfile(HEAD + "def test_it(candidate): pass")
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama", "--llmopt-python", f"bigram={given}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*did not start as a worker: it ended with exit code 5*", "*gone*"])


REAL = """
from pytest_llmopt import llmopt

@llmopt.isolated()
@llmopt.optimization("planted.harm", what="segfault")
def test_dies(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, num_prompts=4, max_new_tokens=4)

@llmopt.isolated()
@llmopt.optimization("planted.harm", what="patches")
def test_patches_its_library(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, num_prompts=4, max_new_tokens=4)

@llmopt.isolated()
@llmopt.optimization("planted.harm", what="settings")
def test_changes_the_process(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, num_prompts=4, max_new_tokens=4)

@llmopt.isolated()
@llmopt.static_cache()
def test_sound(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, num_prompts=4, max_new_tokens=4, least_positions=8)
"""
HARM = """
import ctypes
from dataclasses import dataclass
from typing import ClassVar
from pytest_llmopt import Promise

@dataclass(frozen=True)
class Harm:
    promise: ClassVar[Promise] = Promise.EQUIVALENT
    requirements: ClassVar[tuple] = ()
    conflicts: ClassVar[dict] = {}
    what: str = ""

    def for_transformers(self, plan):
        if self.what:
            plan.after_load.append(getattr(self, self.what))

    def segfault(self, model):
        forward = model.forward
        def die(*args, **kwargs):
            ctypes.string_at(0)
        model.forward = die

    def patches(self, model):
        from transformers.models.llama.modeling_llama import LlamaMLP
        own = LlamaMLP.forward
        LlamaMLP.forward = lambda mlp, x: 1.5 * own(mlp, x)

    def settings(self, model):
        import torch
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(1)

def pytest_llmopt_optimizations(config):
    return {"planted.harm": Harm}
"""


def test_a_real_library_that_dies_or_is_patched_for_good_harms_nobody_else(project, own):
    """What in this process would be "the reference changed" is a plain difference, and is judged."""
    project.makeconftest(HARM)
    project.makepyfile(REAL)
    project.runpytest_subprocess("--llmopt-model", "tiny-llama", "-p", "no:benchmark")
    records = json.loads(project.path.joinpath(".llmopt/report.json").read_text())["records"]
    found = {item["nodeid"].partition("::test_")[2].partition("[")[0]: item for item in records}
    assert found["dies"]["status"] == "ERROR"
    assert "SIGSEGV" in found["dies"]["reason"]
    assert found["patches_its_library"]["status"] == "FAIL"
    assert found["changes_the_process"]["status"] != "ERROR"
    assert found["sound"]["status"] == "PASS"
    assert gone(own)
