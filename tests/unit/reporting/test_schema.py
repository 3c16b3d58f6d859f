"""The JSON schema that ships says what reports are: no field more, none less."""

import dataclasses
import json

import jsonschema
import pytest
from report_schema import SCHEMA, valid

from pytest_llmopt.core.record import MetricRecord, Record, write_report
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict

METRICS = {
    "judged": Metric(Estimate(0.2, 0.1, 0.3, 8, 0.9875), Tolerance(at_most=0.5), "nats"),
    "told": Metric(Estimate.exact(3)),
    "broken": Metric(Estimate(float("nan"), float("-inf"), float("inf"), 1), Tolerance(at_least=1)),
}


def report(tmp_path, *records):
    counts = dict.fromkeys(("collected", "selected", "run", "loads", "variants", "engine_seconds"), 1)
    session = {
        "command": ["pytest"],
        "started": "now",
        "ended": None,
        "exit_code": None,
        "without_verdict": [],
        **counts,
    }
    path = tmp_path / "report.json"
    write_report(path, {"finished": True, "session": session, "environment": {}}, records)
    return json.loads(path.read_text())


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("status", Status)
def test_a_report_is_valid(tmp_path, status):
    metrics = Record.metrics_of(Verdict("c", METRICS, ""))
    valid(
        report(tmp_path, Record("a", "c", "m", "v", status, metrics, not_judged={"memory": "why"}, figures={"bits": 4}))
    )


@pytest.mark.parametrize(("name", "kind"), [("record", Record), ("metric", MetricRecord)])
def test_it_has_every_field_and_no_other(name, kind):
    fields = [item.name for item in dataclasses.fields(kind)]
    assert sorted(SCHEMA["$defs"][name]["properties"]) == sorted(fields)
    assert sorted(SCHEMA["$defs"][name]["required"]) == sorted(fields)


@pytest.mark.parametrize(
    "change", [{"status": "GOOD"}, {"seconds": -1}, {"metrics": {"m": {"point": 1}}}, {"more": 1}, {"seed": "0"}]
)
def test_what_is_no_record_is_not_valid(tmp_path, change):
    content = report(tmp_path, Record("a", "c", "m", "v", Status.PASS))
    content["records"][0] |= change
    with pytest.raises(jsonschema.ValidationError):
        valid(content)


def test_a_metric_says_what_its_interval_really_has():
    told = MetricRecord.of(METRICS["judged"])
    assert (told.confidence, told.status, told.at_most, told.at_least) == (0.9875, "PASS", 0.5, None)
    told = MetricRecord.of(METRICS["told"])
    assert (told.confidence, told.status, told.at_most, told.at_least) == (None, None, None, None)
