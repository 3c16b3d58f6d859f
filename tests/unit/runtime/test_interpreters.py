"""An interpreter is the one that was named, wherever tests go and whatever lies in the folder of the run."""

import sys

import pytest

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.runtime.places import OWN, Places, interpreter


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_relative_path_is_that_of_the_folder_in_which_the_run_began(tmp_path, monkeypatch):
    script(tmp_path / "python", """echo '{"version": [3, 12, 1], "missing": []}'""")
    monkeypatch.chdir(tmp_path)
    assert interpreter("./python", "--llmopt-python") == str(tmp_path / "python")


def test_a_link_is_kept_as_an_environment_is_told_by_it(tmp_path):
    link = tmp_path / "python"
    link.symlink_to(script(tmp_path / "real", """echo '{"version": [3, 12, 1], "missing": []}'"""))
    assert interpreter(str(link), "--llmopt-python") == str(link)


def test_a_checkout_in_the_folder_of_the_run_is_not_taken_for_an_installed_package(tmp_path, monkeypatch):
    elsewhere = tmp_path / "bin"
    elsewhere.mkdir()
    # Isolated from its packages, this interpreter lacks both; the folder of the run has one that is none.
    python = script(elsewhere / "python", f'exec "{sys.executable}" -S "$@"')
    tmp_path.joinpath("numpy.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(OptionError, match=r"lacks numpy packaging: .*python -m pip install numpy packaging"):
        interpreter(str(python), "--llmopt-python")


@pytest.mark.parametrize(
    ("places", "process", "inside"),
    [
        (Places(), "", True),
        (Places(isolate=True), "", False),
        (Places(), OWN, False),
        (Places({"transformers": "/a/python"}), "", False),
        (Places({"vllm": "/a/python"}), "", True),
    ],
)
def test_what_runs_in_this_process(places, process, inside):
    assert places.in_process(Variant("m", process=process)) is inside


def test_a_marker_asks_for_another_candidate_than_the_one_in_this_process():
    """Else a test that has it would be given the engine that an earlier one opened here."""
    assert Variant("m").digest != Variant("m", process=OWN).digest
