"""The line of `llmopt gate`: models and options of pytest in any order, and nothing else."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_llmopt import cli


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two models, a folder of tests and a project's own settings, where the gate is started."""
    for name in ("mine", "other/mine", "tiny-llama"):
        tmp_path.joinpath(name).mkdir(parents=True)
        tmp_path.joinpath(name, "config.json").write_text("{}")
    tmp_path.joinpath("tests").mkdir()
    tmp_path.joinpath("tests/test_it.py").write_text("def test_it(): pass")
    tmp_path.joinpath("conftest.py").write_text("raise AssertionError('the project of the user does not count')")
    tmp_path.joinpath("adapter").mkdir()
    tmp_path.joinpath("adapter/adapter_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def told(folder, monkeypatch):
    """A function that gives what pytest would be run with, or what the gate says instead."""

    def told(line):
        runs = []
        monkeypatch.setattr(cli, "_run", lambda parts, arguments: runs.append((parts, arguments)) or 0)
        result = CliRunner().invoke(cli.app, ["gate", *shlex.split(line)])
        if not runs:
            return result.exit_code, result.output
        ((parts, arguments),) = runs
        # Behind what the gate itself sets.
        return [Path(suite).name for part in parts for suite in part], arguments[7:]

    return told


GOES_TO_PYTEST = [
    ("mine", ["--llmopt-model=mine"]),
    ("mine other/mine", ["--llmopt-model=mine", "--llmopt-model=other/mine"]),
    ("./mine ../{here}/mine", ["--llmopt-model=./mine", "--llmopt-model=../{here}/mine"]),
    ("adapter", ["--llmopt-model=adapter"]),
    ("-k nf4 mine", ["--llmopt-model=mine", "-k", "nf4"]),
    ("-k mine mine", ["--llmopt-model=mine", "-k", "mine"]),
    ("mine -k mine", ["--llmopt-model=mine", "-k", "mine"]),
    ("-k 'nf4 or int8' mine -m 'not slow'", ["--llmopt-model=mine", "-k", "nf4 or int8", "-m", "not slow"]),
    ("-n 2 mine", ["--llmopt-model=mine", "-n", "2"]),
    ("-n2 mine -x", ["--llmopt-model=mine", "-n2", "-x"]),
    ("-p no:randomly mine", ["--llmopt-model=mine", "-p", "no:randomly"]),
    ("-o llmopt_seed=2 mine --maxfail 1", ["--llmopt-model=mine", "-o", "llmopt_seed=2", "--maxfail", "1"]),
    ("--llmopt-dtype bfloat16 mine", ["--llmopt-model=mine", "--llmopt-dtype", "bfloat16"]),
    ("mine --llmopt-draft other/mine", ["--llmopt-model=mine", "--llmopt-draft", "other/mine"]),
    ("--benchmark-min-rounds 3 mine", ["--llmopt-model=mine", "--benchmark-min-rounds", "3"]),
    ("--junitxml out.xml --tb short mine", ["--llmopt-model=mine", "--junitxml", "out.xml", "--tb", "short"]),
    ("--durations=3 mine -vv", ["--llmopt-model=mine", "--durations=3", "-vv"]),
    ("-W error tiny-qwen --deselect a", ["--llmopt-model=tiny-qwen", "-W", "error", "--deselect", "a"]),
    ("-h", ["--llmopt-model=zoo", "-h"]),
    ("--dist loadgroup org/name", ["--llmopt-model=org/name", "--dist", "loadgroup"]),
    ("-- mine -q", ["--llmopt-model=mine", "-q"]),
    ("", ["--llmopt-model=zoo"]),
    ("zoo", ["--llmopt-model=zoo"]),
    ("-k nf4", ["--llmopt-model=zoo", "-k", "nf4"]),
    ("tiny-llama-draft", ["--llmopt-model=tiny-llama-draft"]),
    ("--llmopt-model mine", ["--llmopt-model", "mine"]),
    ("--llmopt-model=mine,tiny-qwen -k a", ["--llmopt-model=mine,tiny-qwen", "-k", "a"]),
    ("--llmopt-model mine tiny-qwen", ["--llmopt-model=tiny-qwen", "--llmopt-model", "mine"]),
]


@pytest.mark.parametrize(("line", "arguments"), GOES_TO_PYTEST, ids=[line for line, _ in GOES_TO_PYTEST])
def test_models_and_options_reach_pytest_wherever_they_stand(told, folder, line, arguments):
    suites, given = told(line.format(here=folder.name))
    assert given == [argument.format(here=folder.name) for argument in arguments]
    assert suites == ["accuracy", "equivalence", "performance"]


@pytest.mark.parametrize(
    "line",
    ["--suite accuracy -k nf4 mine", "-k nf4 mine --suite accuracy", "mine --suite accuracy -k nf4", "mine -k nf4"],
)
def test_options_of_the_gate_may_stand_anywhere_too(told, line):
    suites, given = told(line)
    assert suites == (["accuracy"] if "--suite" in line else ["accuracy", "equivalence", "performance"])
    assert given == ["--llmopt-model=mine", "-k", "nf4"]


REFUSED = [
    ("nf4", "'nf4' is no model: there is no such folder, and it is neither in the zoo nor a hub id such as org/name."),
    ("tiny-lama", "did you mean 'tiny-llama'?"),
    ("tiny_qwen -k a", "did you mean 'tiny-qwen'?"),
    ("mine -k a tiny-gema", "did you mean 'tiny-gemma'?"),
    ("./not-there", "'./not-there' is no model"),
    ("/not/there", "'/not/there' is no model"),
    ("org/name/more", "'org/name/more' is no model"),
    ("tests", "'tests' is a folder without config.json or adapter_config.json"),
    (".", "for tests of your own, run pytest"),
    ("tests/test_it.py", "'tests/test_it.py' is no model; llmopt gate runs the suites that ship with it"),
    ("mine tests/test_it.py::test_it", "for tests of your own, run pytest"),
    ("not_there.py", "'not_there.py' is no model"),
    ("mine/config.json", "'mine/config.json' is no model"),
    ("--llmopt-model tiny-lama", "did you mean 'tiny-llama'?"),
    ("--llmopt-model tiny-qwen,tests", "'tests' is a folder without config.json"),
    ("mine --no-such-option", "unrecognized arguments: --no-such-option"),
    ("mine -k", "argument -k: expected one argument"),
    ("mine --maxfail many", "invalid int value: 'many'"),
    ("--suite acuracy mine", "unknown --suite 'acuracy'; did you mean 'accuracy'?"),
    ("''", "'' is no model"),
    ("mine -p no_such_plugin", 'Error importing plugin "no_such_plugin"'),
]


@pytest.mark.parametrize(("line", "words"), REFUSED, ids=[line for line, _ in REFUSED])
def test_what_is_no_model_is_refused_before_anything_runs(told, line, words):
    code, output = told(line)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert words in output


def test_only_the_model_that_is_named_is_tested(folder):
    """The whole way, in a process of its own: what the suites collect, without loading a model."""
    command = [Path(sys.executable).with_name("llmopt"), "gate", "--suite", "accuracy", "-k", "nf4", "mine", "--co"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    names = [line for line in result.stdout.splitlines() if "::" in line]
    assert result.returncode == pytest.ExitCode.OK, result.stdout + result.stderr
    assert names
    assert all("[mine-" in name and "nf4" in name for name in names)


def test_the_gate_runs_without_pytest_benchmark(told):
    suites, given = told("--suite accuracy mine -p no:benchmark")
    assert suites == ["accuracy"]
    assert given[-3:] == ["--llmopt-model=mine", "-p", "no:benchmark"]


def test_the_gate_brings_its_plugins_where_none_are_loaded_unasked(folder, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    command = [Path(sys.executable).with_name("llmopt"), "gate", "--workers", "2", "-k", "nf4", "mine", "--co"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == pytest.ExitCode.OK, result.stdout + result.stderr
    assert "[mine-" in result.stdout
