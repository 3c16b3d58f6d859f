"""A record agrees with what pytest says of its test, and the report with what became of the run."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from report_schema import valid

OUTCOMES = """
import pytest
from pytest_llmopt import llmopt

QUICK = {"max_new_tokens": 2, "forced_tokens": 0, "least_positions": 2, "deepest": 8}
pytestmark = llmopt.static_cache()


def test_passes(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, **QUICK)

def test_fails_later(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, **QUICK)
    assert 1 == 2, "something else"

def test_skips_later(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, **QUICK)
    pytest.skip("not today")

@pytest.mark.xfail(reason="known")
def test_xfails(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, **QUICK)
    raise ValueError("known bug")

@pytest.mark.xfail(strict=True)
def test_xpasses_strictly(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, **QUICK)

@pytest.mark.xfail
def test_xpasses(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, **QUICK)

@pytest.mark.xfail(raises=AssertionError, strict=True)
@llmopt.quantized("bitsandbytes")
def test_fails_as_expected(candidate, reference, prompts):
    llmopt.assert_accurate(candidate, reference, prompts, kl_divergence=1e-9, top1_agreement=0.5, perplexity_ratio=2.0)

def test_catches(candidate, reference, prompts):
    with pytest.raises(Exception, match="states no limits"):
        llmopt.assert_accurate(candidate, reference, prompts)

@pytest.fixture
def broken_end():
    yield
    raise OSError("the end is broken")

def test_ends_in_an_error(broken_end, candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, **QUICK)

def test_breaks_inside_a_check(candidate, reference):
    llmopt.assert_equivalent(candidate, reference, [[0, 1], [10**6]], **QUICK)

def test_has_swapped_sides(candidate, reference, prompts):
    llmopt.assert_equivalent(reference, candidate, prompts, **QUICK)

def test_asserts_nothing(candidate, reference):
    assert candidate.vocab_size == reference.vocab_size

def test_has_parts(candidate, reference, prompts, subtests):
    for number in range(2):
        with subtests.test(number=number):
            llmopt.assert_equivalent(candidate, reference, prompts, **QUICK)
            assert number == 0
"""
EXPECTED = {
    "test_passes": [("PASS", "passed", "")],
    "test_fails_later": [("PASS", "failed", ""), ("ERROR", "failed", "AssertionError")],
    "test_skips_later": [("PASS", "skipped", ""), ("SKIPPED", "skipped", "")],
    "test_xfails": [("PASS", "xfailed", ""), ("ERROR", "xfailed", "ValueError")],
    "test_xpasses_strictly": [("PASS", "failed", ""), ("ERROR", "failed", "")],
    "test_xpasses": [("PASS", "xpassed", "")],
    "test_fails_as_expected": [("FAIL", "xfailed", "")],
    "test_catches": [("ERROR", "passed", "OptionError")],
    "test_ends_in_an_error": [("PASS", "passed", ""), ("ERROR", "error", "OSError")],
    "test_breaks_inside_a_check": [("ERROR", "failed", None)],
    "test_has_swapped_sides": [("ERROR", "failed", "OptionError")],
    "test_has_parts": [("PASS", "passed", ""), ("PASS", "failed", ""), ("ERROR", "failed", "AssertionError")],
}
"""By test, its records: status, pytest's outcome, the type of the exception (None for any)."""


@pytest.fixture
def report(project):
    """A function that gives the report of the last run."""
    return lambda: valid(json.loads(project.path.joinpath(".llmopt/report.json").read_text()))


def check_outcomes(report):
    found = {}
    for record in report["records"]:
        test = record["nodeid"].partition("::")[2].partition("[")[0]
        found.setdefault(test, []).append((record["status"], record["outcome"], record["error"]))
    wanted = {
        test: [(status, outcome, error if error is not None else found[test][place][2])] if len(rows) == 1 else rows
        for test, rows in EXPECTED.items()
        for place, (status, outcome, error) in enumerate(rows[:1])
    }
    assert found == wanted
    assert report["finished"]
    session = report["session"]
    assert session["collected"] == session["selected"] == session["run"] == 13
    assert session["exit_code"] == pytest.ExitCode.TESTS_FAILED
    assert session["started"] <= session["ended"]
    assert [name.partition("::")[2] for name in session["without_verdict"]] == ["test_asserts_nothing[tiny-llama]"]


def test_records_agree_with_pytest_whatever_becomes_of_a_test(project, report):
    project.makepyfile(OUTCOMES)
    junit = project.path / "junit.xml"
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama", f"--junitxml={junit}", "-rA")
    check_outcomes(report())
    assert {"--llmopt-model", "tiny-llama", "-rA"} <= set(report()["session"]["command"])
    # What plain pytest counts; a part that failed counts beside its test.
    outcomes = result.parseoutcomes()
    wanted = {"passed": 4, "failed": 6, "errors": 1, "skipped": 1, "xfailed": 2, "xpassed": 1}
    assert {name: outcomes.get(name, 0) for name in wanted} == wanted
    assert 'failures="' in junit.read_text()
    text = result.stdout.str()
    for piece in (
        "PASS (test failed)",
        "ERROR (xfail)",
        "FAIL (xfail)",
        "ERROR (caught by the test)",
        "asserted nothing of it, so nothing was judged: *test_asserts_nothing",
        "ValueError: known bug",
    ):
        result.stdout.fnmatch_lines([f"*{piece}*"])
    rows = [line for line in text.splitlines() if "static_cache [" in line]
    assert len({row.partition("[")[2].partition("]")[0] for row in rows}) >= 10, "equal rows tell their tests apart"


@pytest.mark.slow
def test_records_agree_with_pytest_under_workers_too(project, report):
    project.makepyfile(OUTCOMES)
    project.runpytest_subprocess("--llmopt-model", "tiny-llama", "-n", "2", "--dist", "loadgroup", "-p", "no:benchmark")
    check_outcomes(report())


def test_the_short_summary_shows_the_reason_at_80_columns(project, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    project.makepyfile(
        test_a="""
        from pytest_llmopt import llmopt
        limits = {"kl_divergence": 1e-9, "top1_agreement": 0.5, "perplexity_ratio": 2.0}

        @llmopt.quantized("bitsandbytes")
        def test_f(candidate, reference, prompts):
            llmopt.assert_accurate(candidate, reference, prompts, max_new_tokens=4, **limits)
        @llmopt.against(model="no-such-folder/at-all")
        def test_e(candidate, reference): pass
    """
    )
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    line = next(line for line in result.outlines if line.startswith("FAILED test_a.py::test_f"))
    # Four prompts may not decide; the metric stands there in any case.
    assert re.match(r"FAILED test_a\.py::test_f\[tiny-llama\] - accurate (FAIL|INCONCLUSIVE): kl_", line)
    assert len(line) <= 80
    assert line.count("test_a.py") == 1
    # The message itself, then where it was raised; no stack of this package.
    text = result.stdout.str()
    assert "at test_a.py:6: llmopt.assert_accurate(" in text
    assert "assertions.py" not in text


RERUN = '''
import pytest

def pytest_runtest_protocol(item, nextitem):
    """What plugins that run tests again do."""
    from _pytest.runner import runtestprotocol

    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in (1, 2):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        again = attempt == 1 and any(report.failed for report in reports)
        for report in reports:
            if again and report.failed:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
        if not again:
            break
        item._initrequest()
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True

def pytest_report_teststatus(report):
    if report.outcome == "rerun":
        return "rerun", "R", "RERUN"
'''


def test_a_rerun_adds_its_records_and_replaces_none(project, report):
    project.makeconftest(RERUN)
    project.makepyfile("""
        from pytest_llmopt import llmopt
        tries = []

        @llmopt.static_cache()
        def test_it(candidate, reference, prompts):
            tries.append(1)
            llmopt.assert_equivalent(
                candidate, reference, prompts, max_new_tokens=2, forced_tokens=0, least_positions=2, deepest=8
            )
            assert len(tries) == 2
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    assert result.ret == pytest.ExitCode.OK
    found = [(record["attempt"], record["status"], record["outcome"]) for record in report()["records"]]
    assert found == [(1, "PASS", "rerun"), (1, "ERROR", "rerun"), (2, "PASS", "passed")]
    assert report()["session"]["run"] == 1
    result.stdout.fnmatch_lines(["*3 records: 1 PASS, 1 PASS (run again), 1 ERROR (run again)*"])


GPU = """
from pytest_llmopt import llmopt

@llmopt.gpu
@llmopt.static_cache()
def test_gpu(candidate): pass

def test_other(): pass
"""


def test_a_run_without_records_replaces_the_report_of_an_earlier_run(project, report):
    project.makepyfile(GPU)
    arguments = ("--llmopt-model", "tiny-llama")
    project.runpytest_inprocess(*arguments).assert_outcomes(skipped=1, passed=1)
    assert [record["status"] for record in report()["records"]] == ["SKIPPED"]
    markdown = project.path / ".llmopt/llmopt_report.md"
    markdown.write_text("of an earlier run")
    project.runpytest_inprocess(*arguments, "-k", "other").assert_outcomes(passed=1, deselected=1)
    assert report()["records"] == []
    assert report()["finished"]
    assert {name: report()["session"][name] for name in ("collected", "selected", "run")} == {
        "collected": 1,
        "selected": 0,
        "run": 0,
    }
    assert not markdown.exists()


@pytest.mark.parametrize("arguments", [(), ("--collect-only",), ("--setup-plan",), ("--markers",), ("--help",)])
def test_a_run_that_has_nothing_of_ours_or_runs_nothing_writes_no_report(project, arguments):
    project.makepyfile("def test_it(): pass" if not arguments else GPU)
    project.runpytest_inprocess("--llmopt-model", "tiny-llama", *arguments)
    assert not project.path.joinpath(".llmopt").exists()


def test_an_unwritable_report_is_a_usage_error_before_any_test(project):
    project.makepyfile(GPU + "\nraise AssertionError('collected')\n")
    project.path.joinpath("file").write_text("")
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama", "--llmopt-report", "file/report.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = "\n".join(result.outlines + result.errlines)
    assert "the report cannot be written to" in text
    assert "--llmopt-report FILE" in text
    assert "INTERNALERROR" not in text
    assert "'collected'" not in text


def test_a_report_that_can_no_longer_be_written_is_a_warning_and_the_verdicts_stand(project):
    project.makepyfile("""
        import shutil
        from pathlib import Path
        from pytest_llmopt import llmopt

        @llmopt.gpu
        @llmopt.static_cache()
        def test_gpu(candidate): pass

        def test_fills_the_disk():
            shutil.rmtree("out")
            Path("out").write_text("a file where the folder was")
    """)
    arguments = ("--llmopt-model", "tiny-llama", "--llmopt-report", "out/report.json", "-W", "error")
    result = project.runpytest_inprocess(*arguments, "-p", "no:randomly")
    result.assert_outcomes(skipped=1, passed=1, warnings=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*the report is not up to date, *could not be written*", "*1 record: 1 SKIPPED*"])
    assert "INTERNALERROR" not in result.stdout.str()


def test_what_is_left_when_a_run_stops_early_is_counted_and_said(project, report):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.gpu
        @llmopt.static_cache()
        def test_a(candidate): pass
        def test_b(): assert False
        @llmopt.gpu
        @llmopt.static_cache(max_cache_len=9)
        def test_c(candidate): pass
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama", "-x")
    assert not report()["finished"]
    assert (report()["session"]["selected"], report()["session"]["run"]) == (2, 2 if "test_c" in result.outlines else 1)
    result.stdout.fnmatch_lines(["*INCOMPLETE: 1 of 2 selected tests were run*"])


CRASH = """
import os
from pytest_llmopt import llmopt

@llmopt.static_cache()
def test_first(candidate): assert candidate.dtype == "float32"

@llmopt.static_cache()
def test_crash(candidate): os.kill(os.getpid(), 9)

@llmopt.static_cache()
def test_last(candidate): assert candidate.dtype == "float32"
"""


@pytest.mark.slow
def test_a_crashed_worker_leaves_an_error_record_and_the_test_is_not_run_again(project, report):
    project.makepyfile(CRASH)
    result = project.runpytest_subprocess(
        "--llmopt-model", "tiny-llama", "-n", "2", "--dist", "loadgroup", "-p", "no:benchmark"
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    records = report()["records"]
    assert {record["nodeid"].partition("::")[2] for record in records} == {"test_crash[tiny-llama]"}
    assert {record["status"] for record in records} == {"ERROR"}
    assert (records[0]["error"], records[0]["variant"], records[0]["model"]) == (
        "WorkerCrashed",
        "static_cache",
        "tiny-llama",
    )
    assert len(records) <= 2
    assert report()["session"]["run"] == report()["session"]["selected"] == 3


HANG = """
import time
from pytest_llmopt import llmopt

@llmopt.static_cache()
def test_waits(candidate): time.sleep(600)

@llmopt.static_cache()
def test_next(candidate): assert candidate.dtype == "float32"
"""


def test_a_test_that_hangs_ends_with_its_stack_and_the_next_one_runs(project, report):
    project.makepyfile(HANG)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama", "--llmopt-timeout", "3")
    result.assert_outcomes(failed=1, passed=1)
    (record,) = report()["records"]
    assert (record["status"], record["error"], record["outcome"]) == ("ERROR", "TestTimeoutError", "failed")
    assert "still running after 3 s" in record["reason"]
    assert "time.sleep(600)" in record["reason"]
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n", "2", "--dist", "loadgroup")])
def test_a_process_that_hears_no_exception_is_ended_and_its_stack_kept(project, report, workers):
    stubborn = HANG.replace("time.sleep(600)", "hang()").replace(
        "@llmopt",
        """
def hang():
    while True:
        try:
            time.sleep(600)
        except Exception:
            pass

@llmopt""",
        1,
    )
    project.makepyfile(stubborn)
    arguments = ("--llmopt-model", "tiny-llama", "--llmopt-timeout", "60", "-p", "no:benchmark", *workers)
    result = project.runpytest_subprocess(*arguments, timeout=400)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    records = [record for record in report()["records"] if record["error"] == "TestTimeoutError"]
    assert len(records) == 1
    assert "in hang" in records[0]["reason"]
    assert report()["finished"] is bool(workers), "alone, nothing is left to run the other test"


KILLED = """
import pytest
from pytest_llmopt import llmopt

@pytest.mark.parametrize("number", range(40))
@llmopt.static_cache()
def test_it(candidate, reference, prompts, number):
    llmopt.assert_equivalent(
        candidate, reference, prompts, max_new_tokens=2, forced_tokens=0, least_positions=2, deepest=8
    )
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n", "2", "--dist", "load")])
def test_a_run_that_is_killed_leaves_a_valid_report_that_says_so(project, workers):
    """At random moments between its start and what would be its end; the seed is fixed, the machine is not."""
    project.makepyfile(KILLED)
    path = project.path / ".llmopt/report.json"
    stale = {"schema": 2, "finished": True, "records": [], "session": {"command": ["an earlier run"]}}
    command = [sys.executable, "-m", "pytest", "-q", "--llmopt-model", "tiny-llama", "-p", "no:benchmark", *workers]
    draws, seen = random.Random(5), Counter()  # noqa: S311 - when to kill
    for _ in range(20):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(stale))
        process = subprocess.Popen(
            command, cwd=project.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 120
        # From the moment on at which pytest has begun: before that, no file can be anybody's.
        while json.loads(path.read_text())["session"]["command"] == ["an earlier run"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(draws.uniform(0, 16))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        report = json.loads(path.read_text())
        assert report["finished"] is False or report["session"]["exit_code"] is not None
        seen[report["finished"]] += 1
        assert report["session"]["command"][0] == "pytest"
        assert all(record["status"] == "PASS" for record in report["records"])
    assert seen[False] >= 10, "most moments lie before the end"


def test_two_models_of_one_name_stay_apart_in_the_table(project, report):
    import shutil

    zoo = Path(__file__).parents[2] / "fixtures/models"
    for place in ("one", "two"):
        shutil.copytree(zoo / "tiny-llama", project.path / place / "mine")
    project.makepyfile(GPU)
    models = f"{project.path}/one/mine,{project.path}/two/mine"
    result = project.runpytest_inprocess("--llmopt-model", models, "-v")
    result.assert_outcomes(skipped=2, passed=1)
    assert len({record["model"] for record in report()["records"]}) == 2
    result.stdout.fnmatch_lines(["llmopt * one/mine, two/mine *"])
