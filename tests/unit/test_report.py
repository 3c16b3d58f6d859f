"""The report of a run speaks for that run, from its beginning on, and says whether it is whole."""

import json

import pytest

from pytest_llmopt.core.record import Record
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.report import MARKDOWN, Report


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep/report.json"


def read(path):
    return json.loads(path.read_text())


def test_from_its_beginning_on_it_replaces_an_older_one_and_is_not_finished(path):
    path.parent.mkdir()
    path.write_text('{"finished": true}')
    path.with_name(MARKDOWN).write_text("old")
    Report(("pytest", "-q")).begin(path)
    content = read(path)
    assert content["finished"] is False
    assert content["session"]["command"] == ["pytest", "-q"]
    assert content["session"]["exit_code"] is content["session"]["ended"] is None
    assert not path.with_name(MARKDOWN).exists()


@pytest.mark.parametrize(
    ("codes", "selected", "run", "finished", "exit_code"),
    [
        ([0], 2, 2, True, 0),
        ([1], 2, 2, True, 1),
        ([1], 2, 1, False, 1),  # -x
        ([2], 2, 2, False, 2),  # Ctrl-C
        ([3], 2, 2, False, 3),
        ([5], 0, 0, True, 5),
        ([5, 0], 2, 2, True, 0),
        ([0, 1, 0], 2, 2, True, 1),
        ([0, 2], 2, 2, False, 2),
    ],
)
def test_it_is_finished_where_every_selected_test_was_run(path, codes, selected, run, finished, exit_code):
    report = Report(("llmopt", "gate"))
    report.begin(path)
    report.counts.collected = report.counts.selected = selected
    report.counts.run = run
    for place, code in enumerate(codes):
        report.goes_on = place + 1 < len(codes)
        report.end(code, {})
        if report.goes_on and code in {0, 1, 5}:
            assert read(path)["finished"] is False, "another session follows"
    assert read(path)["finished"] is finished
    assert read(path)["session"]["exit_code"] == exit_code


def test_a_session_that_was_interrupted_is_the_last_one(path):
    report = Report(("llmopt", "gate"), goes_on=True)
    report.begin(path)
    report.end(0, {})
    assert not report.is_last
    report.end(2, {})
    assert report.is_last
    assert read(path)["session"]["ended"] is not None


def test_what_processes_spent_is_summed_with_what_is_being_spent(path):
    report = Report(("pytest",))
    report.begin(path)
    report.spent.append({"loads": 2, "variants": 1, "engine_seconds": 1.5, "gpus": ["H100"]})
    report.add([Record("t", "equivalent", "m", "v", Status.PASS)], {"loads": 1, "variants": 1, "engine_seconds": 0.5})
    content = read(path)
    assert {name: content["session"][name] for name in ("loads", "variants", "engine_seconds")} == {
        "loads": 3,
        "variants": 2,
        "engine_seconds": 2.0,
    }
    assert content["environment"]["gpus"] == ["H100"]
    assert [record["nodeid"] for record in content["records"]] == ["t"]


def test_where_it_cannot_be_written_any_more_it_says_why_and_goes_on(path):
    report = Report(("pytest",))
    report.begin(path)
    path.unlink()
    path.mkdir()
    report.add([Record("t", "equivalent", "m", "v", Status.PASS)], {})
    assert "directory" in report.trouble
    path.rmdir()
    report.write({})
    assert report.trouble == ""
    assert len(read(path)["records"]) == 1


def test_before_its_beginning_nothing_is_written(path):
    Report(("pytest",)).end(0, {})
    assert not path.parent.exists()
