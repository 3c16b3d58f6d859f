"""The table at the end of a run: every verdict, every reason to skip, and a line that sums them up."""

import re

import pytest

from pytest_llmopt.core.record import Counts, Record
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.reporting.terminal import incomplete, render, summary


def record(status=Status.PASS, **changes):
    given = {"nodeid": "t.py::t", "check": "accurate", "model": "tiny-llama", "variant": "nf4", "evidence": "KL 0.02"}
    return Record(**(given | changes), status=status)


def rendered(*records, environment=None, color=False, width=120):
    return render(records, environment or {"cpu": "a CPU"}, width=width, color=color)


def line_with(text, *records, **options):
    (line,) = [line for line in rendered(*records, **options).splitlines() if text in line]
    return line


def test_the_heading_names_models_hardware_and_seeds_once():
    records = [record(), record(seed=3), record(model="/deep/folder/mine/"), record(model="org/model")]
    assert rendered(*records).splitlines()[0] == "llmopt · tiny-llama, mine, org/model · a CPU · seed 0, 3"


@pytest.mark.parametrize(
    ("environment", "shown"), [({"gpus": ["H100"], "cpu": "a CPU"}, "H100"), ({"gpus": []}, "unknown CPU")]
)
def test_the_heading_prefers_the_gpus(environment, shown):
    assert f" · {shown} · " in rendered(record(), environment=environment)


def test_a_row_holds_check_variant_model_verdict_and_evidence():
    assert line_with("nf4", record()).split() == ["accurate", "nf4", "tiny-llama", "PASS", "KL", "0.02"]


def test_rows_are_grouped_by_check_which_is_named_once():
    text = rendered(record(check="b", variant="v2"), record(check="a", variant="v3"), record(check="b", variant="v1"))
    rows = [line.split()[:2] for line in text.splitlines() if "PASS" in line and "records" not in line]
    assert rows == [["a", "v3"], ["b", "v1"], ["v2", "tiny-llama"]]


def test_where_there_is_no_evidence_the_first_line_of_the_reason_stands():
    line = line_with("ERROR  ", record(Status.ERROR, evidence="", reason="no such model\nmore about it"))
    assert line.rstrip().endswith("no such model")


@pytest.mark.parametrize("text", ["a [/INST] token", "[bold] text", "[Errno 2] none", "p[0.1, 0.2]", ":smile:"])
def test_text_of_others_is_shown_as_it_is(text):
    assert text in rendered(record(Status.ERROR, evidence="", reason=text))
    assert text in rendered(record(variant=text))
    assert text in rendered(record(Status.SKIPPED, reason=text))


def test_skips_are_told_once_with_their_reason_and_count():
    skip = record(Status.SKIPPED, variant="flash", reason="gpu: needs a CUDA device")
    other = record(Status.SKIPPED, variant="awq", reason="gpu: needs a CUDA device")
    text = rendered(skip, skip, skip, other, record())
    assert "skipped  flash: gpu: needs a CUDA device (3 times)\n" in text
    assert "skipped  awq: gpu: needs a CUDA device\n" in text
    assert text.count("SKIPPED") == 1, "skips are no rows of the table"


def test_without_verdicts_there_is_no_table():
    assert "verdict" not in rendered(record(Status.SKIPPED, reason="x"))


def test_the_summary_counts_every_kind_and_the_seconds():
    records = [
        record(seconds=1.25, engine_seconds=1.0),
        record(seconds=0.5, engine_seconds=0.25),
        record(Status.FAIL),
        record(Status.SKIPPED),
        record(Status.ERROR),
    ]
    expected = "5 records: 2 PASS, 1 FAIL, 1 SKIPPED, 1 ERROR · 1.8 s in checks (engines 1.2 s)"
    assert summary(records) == expected
    assert rendered(*records).splitlines()[-1] == expected


def test_color_is_there_when_asked_for_and_only_then():
    assert "\x1b[" not in rendered(record(), record(Status.FAIL))
    colored = rendered(record(), record(Status.FAIL), color=True)
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == rendered(record(), record(Status.FAIL))


def test_long_texts_are_folded_and_not_cut():
    words = [f"word{place}" for place in range(40)]
    text = rendered(record(evidence=" ".join(words)), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert all(word in text for word in words)


@pytest.mark.parametrize(
    ("status", "outcome", "shown"),
    [
        (Status.PASS, "passed", "PASS"),
        (Status.PASS, "failed", "PASS (test failed)"),
        (Status.PASS, "xfailed", "PASS (xfail)"),
        (Status.PASS, "rerun", "PASS (run again)"),
        (Status.PASS, "skipped", "PASS (then skipped)"),
        (Status.FAIL, "failed", "FAIL"),
        (Status.FAIL, "xfailed", "FAIL (xfail)"),
        (Status.FAIL, "passed", "FAIL (caught by the test)"),
        (Status.FAIL, "rerun", "FAIL (run again)"),
        (Status.ERROR, "error", "ERROR"),
        (Status.ERROR, "passed", "ERROR (caught by the test)"),
        (Status.INCONCLUSIVE, "passed", "INCONCLUSIVE"),
        (Status.INCONCLUSIVE, "rerun", "INCONCLUSIVE (run again)"),
    ],
)
def test_a_verdict_says_what_pytest_made_of_it(status, outcome, shown):
    judged = record(status, outcome=outcome)
    assert f" {shown} " in line_with("nf4", judged)
    assert summary([judged]).startswith(f"1 record: 1 {shown} ·")


def test_equal_rows_tell_their_tests_apart_and_others_do_not_name_them():
    eight = [record(nodeid=f"t.py::test_it[{number}]") for number in range(8)]
    text = rendered(*eight, record(variant="other", nodeid="t.py::test_other"))
    for number in range(8):
        assert f"nf4 [test_it[{number}]]" in text
    assert "test_other" not in text


def test_an_error_says_its_type_and_why():
    line = line_with("ERROR  ", record(Status.ERROR, evidence="", reason="no such model\nmore", error="ModelError"))
    assert line.rstrip().endswith("ModelError: no such model")


def test_nothing_in_the_table_is_obeyed_by_a_terminal():
    hostile = "\x1b[2J\x07\u202e"
    text = rendered(
        record(variant=hostile, model=f"/{hostile}", evidence=hostile),
        record(Status.SKIPPED, reason=hostile),
        environment={"cpu": hostile},
    )
    assert not set("\x1b\x07\u202e") & set(text)


def test_a_run_that_is_cut_short_says_how_much_was_run():
    assert incomplete(Counts(9, 7, 7), finished=True) == ""
    assert "3 of 7 selected tests were run" in incomplete(Counts(9, 7, 3), finished=False)
