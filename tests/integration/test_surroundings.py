"""Verdicts stand whatever the folders around a run are like: shared, full, read-only, absent."""

import json
import os
import shutil
import subprocess
import sys

import pytest

TEST = """
from pytest_llmopt import llmopt

@llmopt.static_cache()
def test_it(candidate, reference, prompts):
    llmopt.assert_equivalent(
        candidate, reference, prompts, max_new_tokens=4, forced_tokens=0, least_positions=2, deepest=8
    )
"""
ABSENT = "/proc/none"
"""A folder that nobody can make, root included."""


def start(project, *arguments, **environment):
    """A run in a process of its own; None takes a variable away."""
    own = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    own = {key: value for key, value in own.items() if value is not None and not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "--llmopt-model", "tiny-llama", "-p", "no:benchmark", *arguments]
    return subprocess.Popen(
        command, cwd=project.path, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def passed(process):
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert "INTERNALERROR" not in text
    assert "1 record: 1 PASS" in text
    return text


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, ABSENT])
def test_without_a_home_the_verdict_stands(project, home):
    project.makepyfile(TEST)
    passed(start(project, HOME=home, XDG_CACHE_HOME=None, HF_HOME=None))


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_to_is_a_warning(project):
    project.makepyfile(TEST)
    text = passed(start(project, "--llmopt-cache", f"{ABSENT}/cache"))
    assert "the noise floor cannot be kept" in text
    assert "--llmopt-cache" in text


@pytest.mark.slow
def test_a_full_disk_under_the_cache_is_a_warning(project, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk],  # noqa: S607
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here, which takes root")
    try:
        disk.joinpath("full").write_bytes(b"x" * shutil.disk_usage(disk).free)
        project.makepyfile(TEST)
        assert "No space left on device" in passed(start(project, "--llmopt-cache", str(disk / "cache")))
    finally:
        subprocess.run(["umount", disk], check=True)  # noqa: S607


@pytest.mark.slow
def test_two_runs_that_share_a_cache_folder_at_once_both_pass(project):
    project.makepyfile(TEST)
    reports = [project.path / f"{name}.json" for name in ("one", "two")]
    runs = [start(project, "--llmopt-report", str(report), "-p", "no:cacheprovider") for report in reports]
    for run in runs:
        passed(run)
    found = [json.loads(report.read_text()) for report in reports]
    assert all(report["finished"] for report in found)
    assert found[0]["records"][0]["metrics"] == found[1]["records"][0]["metrics"]
    assert len(list((project.path / ".llmopt/cache/noise-floor").iterdir())) == 1
