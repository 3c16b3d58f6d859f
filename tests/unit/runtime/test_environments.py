"""An environment is there or it is not: nothing half made is found, and what failed is said in pip's words."""

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmopt.core.errors import UnknownNameError
from pytest_llmopt.runtime import environments

NAME = "some-engine"


@pytest.fixture
def pins(tmp_path, monkeypatch):
    """One environment with its pins, and a cache folder of its own."""
    folder = tmp_path / "pins"
    folder.mkdir()
    folder.joinpath(f"{NAME}.txt").write_text("# Tested.\nnumpy==2.3.5\n\npackaging>=24\n")
    monkeypatch.setattr(environments, "PINS", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder / f"{NAME}.txt"


@pytest.fixture
def commands(monkeypatch):
    """What is run, by a stand-in that makes the interpreter as `venv` does."""
    seen = []

    def run(command):
        seen.append(command)
        if "venv" in command:
            python = Path(command[-1], "bin", "python")
            python.parent.mkdir(parents=True)
            python.touch()

    monkeypatch.setattr(environments, "_run", run)
    return seen


def left(pins):
    """What is in the cache folder of environments, hidden folders too."""
    folder = pins.parent.parent / "cache/pytest-llmopt/environments"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_it_is_made_once_from_its_pins_and_found_again(pins, commands):
    said = []
    folder = environments.create(NAME, said.append)
    assert left(pins) == [folder]
    assert commands[-1][-2:] == ["-r", str(pins)]
    assert environments.interpreter_of(NAME) == str(folder / "bin" / "python")
    assert any("numpy==2.3.5, packaging>=24" in line for line in said)
    done = len(commands)
    assert environments.create(NAME, said.append) == folder
    assert len(commands) == done


def test_other_pins_are_another_environment(pins, commands):
    first = environments.create(NAME, print)
    pins.write_text("numpy==2.3.6\n")
    assert not environments.is_made(NAME)
    assert environments.create(NAME, print) != first
    assert len(left(pins)) == 2


@pytest.mark.parametrize("when", ["venv", "pip"])
def test_what_is_interrupted_leaves_nothing(pins, commands, monkeypatch, when):
    inner = environments._run

    def interrupted(command):
        inner(command)
        if when in command:
            raise KeyboardInterrupt

    monkeypatch.setattr(environments, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        environments.create(NAME, print)
    assert left(pins) == []
    assert not environments.is_made(NAME)


def test_what_pip_says_is_in_the_error(pins, monkeypatch):
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution found"),
    )
    with pytest.raises(environments.EnvironmentNotMadeError, match="exit code 1:\nERROR: No matching distribution"):
        environments.create(NAME, print)
    assert left(pins) == []


def test_the_list_says_where_it_is_or_the_command_that_makes_it(pins, commands, monkeypatch):
    monkeypatch.setattr(environments, "lacks", lambda _name: [])  # the stand-in is no interpreter
    assert environments.listed() == [f"{NAME}: numpy==2.3.5, packaging>=24; not made yet: llmopt env create {NAME}"]
    folder = environments.create(NAME, print)
    assert environments.listed() == [f"{NAME}: numpy==2.3.5, packaging>=24; {folder / 'bin' / 'python'}"]


def test_a_name_that_is_none_lists_those_there_are(pins):
    with pytest.raises(UnknownNameError, match=f"unknown environment 'other'.*Known: {NAME}"):
        environments.create("other", print)


def test_it_depends_on_the_python_that_makes_it(pins, monkeypatch):
    first = environments.folder_of(NAME)
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    assert environments.folder_of(NAME) != first


def test_what_a_made_environment_lacks_is_listed_with_the_command_that_gets_it(pins, monkeypatch):
    pins.write_text("numpy==0.0.1\npackaging>=20\nno-such-package>=1\n")
    monkeypatch.setattr(environments, "interpreter_of", lambda _name: sys.executable)
    (line,) = environments.listed()
    command = f"{sys.executable} -m pip install numpy==0.0.1 'no-such-package>=1'"
    assert line.endswith(f"lacks numpy==0.0.1, no-such-package>=1: {command}")
    pins.write_text("packaging>=20\n")
    assert environments.listed() == [f"{NAME}: packaging>=20; {sys.executable}"]


def test_one_whose_interpreter_does_not_run_is_listed_so(pins, commands):
    environments.create(NAME, print)
    (line,) = environments.listed()
    assert f"does not run: remove {environments.folder_of(NAME)}, then llmopt env create {NAME}" in line
