"""Transformers under a second interpreter, of another release, gets the verdicts that it gets in this process."""

import json
import os
from pathlib import Path

import pytest

from pytest_llmopt.core.loading import ZOO
from pytest_llmopt.runtime.environments import EnvironmentNotMadeError, create, is_made, listed

NAME = "transformers-previous"
TEST = """
from pytest_llmopt import llmopt

@llmopt.variants({"static": llmopt.static_cache(), "lookup": llmopt.prompt_lookup(3)})
def test_same_release(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=16)

@llmopt.static_cache()
def test_optimized(candidate, reference, prompts):
    llmopt.assert_optimized(candidate, reference, prompts)

@llmopt.optimization("planted.softmax_scale", factor=1.5)
def test_wrong(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=16)
"""
ACROSS = """
from pytest_llmopt import llmopt

@llmopt.isolated(python="transformers-previous")
def test_across(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=16)
"""
PLANTED = Path(__file__).with_name("planted.py")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("environment")]


@pytest.fixture(scope="module")
def made():
    """The cache folder of the user, with the environment in it; about two minutes the first time."""
    try:
        create(NAME, print)
    except EnvironmentNotMadeError as error:
        pytest.skip(f"the environment cannot be made here: {error}")
    assert is_made(NAME)
    assert any(line.startswith(f"{NAME}: ") and "bin/python" in line for line in listed())
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


@pytest.fixture
def environment(made, monkeypatch):
    """The runs of a test find it, though pytester gives each a home of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(made))


def verdicts(project, *options):
    project.runpytest_subprocess("--llmopt-model=zoo", "-p", "no:benchmark", *options)
    report = json.loads((project.path / ".llmopt/report.json").read_text())
    assert report["finished"]
    return {item["nodeid"]: (item["check"], item["status"]) for item in report["records"]}


def test_the_verdicts_are_those_of_this_process_on_every_family(project, environment):
    project.makeconftest(PLANTED.read_text())  # no path leads from that run to this folder
    project.makepyfile(TEST)
    here = verdicts(project)
    there = verdicts(project, "--llmopt-python", f"transformers={NAME}")
    assert here == there
    assert len(here) == 4 * len(ZOO)
    assert {status for _, status in here.values()} == {"PASS", "FAIL"}


def test_one_release_is_judged_against_the_other(project, environment):
    project.makepyfile(ACROSS)
    assert set(verdicts(project).values()) == {("equivalent", "PASS")}
