"""The wheel holds all that a user needs: installed away from the repository, the gate runs."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built with the tools that are installed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_one_top_level_package_with_the_suites_and_the_zoo(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"pytest_llmopt"}
    for wanted in (
        "suites/equivalence/test_equivalence.py",
        "suites/pytest.ini",
        "fixtures/prompts/default.jsonl",
        "reporting/report.schema.json",
        "fixtures/models/tiny-gemma-draft/model.safetensors",
    ):
        assert f"pytest_llmopt/{wanted}" in names


@pytest.mark.slow
def test_the_gate_runs_from_an_installed_wheel_in_another_folder(wheel, tmp_path):
    """An environment of its own with the wheel in it; the libraries come from this one, to install torch once."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    site = next(environment.glob("lib/python*/site-packages"))
    # A plain path: what is installed in editable mode over there, our own checkout, stays invisible.
    site.joinpath("libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [environment / "bin/llmopt", "gate", "tiny-qwen", "-k", "static_cache and not compiled and not budget"]
    result = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(elsewhere.joinpath(".llmopt/report.json").read_text())
    assert {record["status"] for record in report["records"]} == {"PASS"}
    assert len(report["records"]) >= 2
    where = subprocess.run(
        [python, "-c", "import pytest_llmopt; print(pytest_llmopt.__file__)"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(site))
