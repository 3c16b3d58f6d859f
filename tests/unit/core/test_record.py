"""Records survive JSON and other processes; a report is written whole or not at all."""

import json
import math
import stat

import execnet
import numpy as np
import pytest

from pytest_llmopt.core.record import SCHEMA, MetricRecord, Record, write_report
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict

NAN, INF = math.nan, math.inf
VERDICT = Verdict(
    "accurate",
    {
        "kl": Metric(Estimate(0.02, 0.01, 0.03, 8), Tolerance(at_most=0.05), "nats/token"),
        "broken": Metric(Estimate(NAN, -INF, INF, 1), Tolerance()),
        "told": Metric(Estimate.exact(3)),
    },
    "evidence",
)


def record(**changes):
    given = {
        "nodeid": "test_x.py::test_x[nan]",
        "check": "accurate",
        "model": "m",
        "variant": "nf4",
        "status": Status.FAIL,
        "metrics": Record.metrics_of(VERDICT),
        "seconds": 1.5,
        "engine_seconds": 1.25,
        "evidence": "KL 0.02",
        "reason": "why ‖ ",
        "reference": "unoptimized",
        "seed": 7,
    }
    return Record(**(given | changes))


def test_metrics_keep_the_interval_the_limit_and_the_unit():
    metrics = Record.metrics_of(VERDICT)
    assert metrics["kl"] == MetricRecord(0.02, 0.01, 0.03, 8, "nats/token", at_most=0.05, status="PASS")
    assert metrics["told"].at_most is metrics["told"].status is None


def test_a_record_survives_strict_json_with_nan_and_infinity():
    text = json.dumps(record().to_json(), allow_nan=False)
    again = Record.from_json(json.loads(text))
    broken = again.metrics["broken"]
    assert math.isnan(broken.point)
    assert (broken.low, broken.high) == (-INF, INF)
    assert json.dumps(again.to_json()) == text
    assert again.metrics["kl"] == record().metrics["kl"]
    assert again.status is Status.FAIL


def test_figures_survive_and_a_report_without_them_can_be_read():
    told = record(figures={"bits": 4, "group": "channel", "load_s": 0.5})
    assert Record.from_json(json.loads(json.dumps(told.to_json()))).figures == told.figures
    older = {key: value for key, value in told.to_json().items() if key != "figures"}
    assert Record.from_json(older).figures == {}


def test_a_record_without_metrics_comes_back_equal():
    bare = Record("a", "", "m", "v", Status.SKIPPED)
    assert Record.from_json(bare.to_json()) == bare


def test_text_that_looks_like_a_number_stays_text():
    metric = MetricRecord(1.0, 1.0, 1.0, 1, unit="nan")
    assert Record.from_json(record(metrics={"m": metric}).to_json()).metrics["m"].unit == "nan"


def test_numpy_scalars_of_an_estimate_become_plain_numbers():
    """execnet, which carries records between the processes of pytest-xdist, takes exact builtin types only."""
    estimate = Estimate(np.float64(0.5), np.float32(0.25), np.float64(np.nan), np.int64(3))
    metric = Metric(estimate, Tolerance(at_most=np.float32(2)))
    content = record(metrics=Record.metrics_of(Verdict("c", {"m": metric}, ""))).to_json()
    assert execnet.loads(execnet.dumps(content)) == content
    limits = {"at_least": None, "at_most": 2.0, "status": "FAIL", "confidence": None}
    assert content["metrics"]["m"] == {"point": 0.5, "low": 0.25, "high": "nan", "n": 3, "unit": "", **limits}


@pytest.mark.parametrize("status", Status)
def test_every_status_crosses_to_another_process(status):
    content = execnet.loads(execnet.dumps(record(status=status).to_json()))
    assert Record.from_json(content).status is status


def test_the_report_has_schema_environment_and_records(tmp_path):
    path = tmp_path / "deep" / "er" / "report.json"
    write_report(path, {"finished": True, "environment": {"python": "3.11"}}, [record(), record(nodeid="other")])
    content = json.loads(path.read_text())
    assert content["schema"] == SCHEMA == 2
    assert content["finished"] is True
    assert content["environment"] == {"python": "3.11"}
    assert [item["nodeid"] for item in content["records"]] == ["test_x.py::test_x[nan]", "other"]
    assert {"point", "low", "high", "n", "at_most", "status"} <= content["records"][0]["metrics"]["kl"].keys()


def interrupted():
    """Records that end in Ctrl-C."""
    yield record()
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("environment", "records", "error"),
    [
        ({"what": object()}, [], TypeError),  # while the file is being written
        ({}, [record(seconds=NAN)], ValueError),  # JSON has no NaN
        ({}, interrupted(), KeyboardInterrupt),
    ],
    ids=["not-json", "nan", "interrupt"],
)
def test_a_failure_while_writing_leaves_the_old_report_and_no_other_file(tmp_path, environment, records, error):
    path = tmp_path / "report.json"
    write_report(path, {}, [record()])
    before = path.read_bytes()
    with pytest.raises(error):
        write_report(path, environment, records)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_that_cannot_take_its_place_leaves_no_other_file(tmp_path):
    tmp_path.joinpath("report.json").mkdir()
    with pytest.raises(OSError, match=r"report\.json"):
        write_report(tmp_path / "report.json", {}, [])
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_new_report_replaces_the_old_one_whole(tmp_path):
    path = tmp_path / "report.json"
    for count in (3, 1):
        write_report(path, {}, [record()] * count)
    assert len(json.loads(path.read_text())["records"]) == 1


def test_a_report_is_as_readable_as_any_other_file(tmp_path):
    write_report(tmp_path / "report.json", {}, [])
    tmp_path.joinpath("other").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1
