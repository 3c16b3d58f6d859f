"""The package that `docs/how-to/add-a-quantizer.md` shows: installed beside the plugin, it gets verdicts by name."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
SHOWN = (REPOSITORY / "docs" / "how-to" / "add-a-quantizer.md").read_text(encoding="utf-8")


def shown(name):
    """The file of that name, as the page shows it."""
    return re.search(rf"`{re.escape(name)}`:\n\n```\w+\n(.*?)```", SHOWN, re.DOTALL)[1]


@pytest.fixture
def installed(tmp_path):
    """A folder with the package and its metadata, as an installer leaves them."""
    project = tomllib.loads(shown("pyproject.toml"))["project"]
    target = tmp_path / "site"
    package, metadata = target / "llmopt_rows", target / "llmopt_rows-1.0.dist-info"
    package.mkdir(parents=True)
    metadata.mkdir()
    (package / "__init__.py").write_text(shown("llmopt_rows/__init__.py"))
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    ((group, entries),) = project["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return target


def test_the_quantizer_that_the_page_shows_is_judged_by_its_name(installed, tmp_path):
    (tmp_path / "test_rows.py").write_text(shown("test_rows.py"))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    paths = [str(installed), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--llmopt-model", "tiny-llama", "-rA"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert "1 failed" in done.stdout
    assert "FAILED test_rows.py::test_two_bits_are_not_accurate" in done.stdout
    assert re.search(r"optimized +rows\(?.* PASS +(\d+) of \1 claims true", done.stdout)
