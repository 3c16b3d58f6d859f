"""`llmopt gate` on several workers: one report and one table, and what is timed runs alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_llmopt import cli
from pytest_llmopt.cli import _parts
from pytest_llmopt.core.loading import locate, suites_folder


def test_what_is_timed_has_the_machine_to_itself():
    folder = suites_folder()
    shared, alone = _parts(folder, ["accuracy", "performance", "equivalence"], 2)
    assert shared[-4:] == ["-n", "2", "--dist", "loadgroup"]
    assert shared[:2] == [str(folder / "accuracy"), str(folder / "equivalence")]
    assert alone == [str(folder / "performance")]
    assert _parts(folder, ["performance"], 2) == [[str(folder / "performance")]]
    assert _parts(folder, ["accuracy", "performance"], 1) == [[str(folder / "accuracy"), str(folder / "performance")]]


def gate(folder, *arguments, model="tiny-qwen"):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [Path(sys.executable).with_name("llmopt"), "gate", "--workers", "2", model, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_all_parts_of_a_gate_make_one_report_and_one_table(tmp_path):
    result = gate(tmp_path, "-k", "bitsandbytes_nf4")
    assert result.returncode == pytest.ExitCode.OK, result.stdout + result.stderr
    assert result.stdout.count("llmopt verdicts") == 1
    report = json.loads((tmp_path / ".llmopt/report.json").read_text())
    assert [record["check"] for record in report["records"]] == ["optimized", "accurate", "within_budget"]
    # A worker loads both sides, and so does the part that runs alone.
    assert report["session"]["loads"] == report["session"]["variants"] == 4
    assert report["session"]["engine_seconds"] > 0


def test_a_failure_in_the_first_part_is_the_end_of_the_whole_gate(tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(locate("tiny-llama"), broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    result = gate(tmp_path, "-k", "bitsandbytes_nf4", model=str(broken))
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout + result.stderr
    statuses = {record["status"] for record in json.loads((tmp_path / ".llmopt/report.json").read_text())["records"]}
    assert statuses == {"ERROR"}


def test_a_gate_that_selects_nothing_says_so(tmp_path):
    assert gate(tmp_path, "-k", "no_such_test").returncode == pytest.ExitCode.NO_TESTS_COLLECTED


def test_the_suite_of_methods_runs_only_where_it_is_named(monkeypatch):
    parts = []
    monkeypatch.setattr(cli, "_run", lambda chosen, _: parts.extend(chosen) or 0)
    assert CliRunner().invoke(cli.app, ["gate", "tiny-llama"]).exit_code == 0
    assert [Path(suite).name for suite in parts.pop()] == ["accuracy", "equivalence", "performance"]
    assert CliRunner().invoke(cli.app, ["gate", "--suite", "quantization", "tiny-llama"]).exit_code == 0
    assert [Path(suite).name for suite in parts.pop()] == ["quantization"]
