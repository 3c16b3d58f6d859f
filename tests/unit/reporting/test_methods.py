"""The table of methods: a row for each accuracy verdict, what is missing is a dash, and no failure is hidden."""

import math

from pytest_llmopt.core.record import MetricRecord, Record
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.reporting.methods import COLUMNS, render_methods

ENVIRONMENT = {"cpu": "a CPU", "python": "3.11.9", "packages": {"torch": "2.13.0"}}


def metric(value):
    return MetricRecord(value, value, value, 1)


METRICS = {
    "weight_memory": metric(1024.0 * 1024),
    "weight_saving_16_bit": metric(3.556),
    "kl_divergence": metric(0.00531),
    "perplexity_ratio": metric(1.00364),
    "top1_agreement": metric(0.9412),
    "flip_rate": metric(0.00128),
    "decode_tokens_per_s": metric(123.4),
}
FIGURES = {"bits": 4, "group": 64, "quantize_s": 90.47, "load_s": 1.25, "load_peak_bytes": 3 * 1024.0**2}


def record(status=Status.PASS, **changes):
    given = {"nodeid": "t.py::t", "check": "accurate", "model": "/zoo/tiny-llama", "variant": "gptq(bits=4)"}
    return Record(**(given | {"metrics": METRICS, "figures": FIGURES} | changes), status=status)


def cells(*records):
    """The cells of every row, by heading."""
    lines = [line for line in render_methods(records, ENVIRONMENT).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(line) for line in lines}) == 1, "aligned, so that a terminal shows a table too"
    assert rows[0] == list(COLUMNS)
    assert all(set(cell) <= {":", "-"} for cell in rows[1])
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def test_a_row_holds_every_figure():
    (row,) = cells(record())
    assert row == {
        "method": "gptq(bits=4)",
        "model": "tiny-llama",
        "bits": "4",
        "group": "64",
        "weight memory": "1 MiB",
        "vs 16-bit": "3.56",
        "KL": "5.3e-03",
        "perplexity": "1.0036",
        "top-1": "94.1%",
        "flips": "0.13%",
        "quantize s": "90.47",
        "load s": "1.25",
        "load peak": "3 MiB",
        "decode tok/s": "123",
        "verdict": "PASS",
    }


def test_what_is_missing_is_a_dash_and_never_zero():
    (row,) = cells(record(metrics={}, figures={}))
    shown = {name: cell for name, cell in row.items() if name not in {"method", "model", "verdict"}}
    assert set(shown.values()) == {"-"}


def test_nan_is_shown_as_it_is():
    (row,) = cells(record(Status.FAIL, metrics={"kl_divergence": metric(math.nan)}))
    assert row["KL"] == "nan"


def test_what_no_check_could_judge_stands_beside_the_verdict():
    """The table is pasted where nobody sees the records: a bare PASS there would say more than was seen."""
    gaps = {"memory": "candidate: not answered"}
    (row,) = cells(record(not_judged=gaps), record(check="equivalent", not_judged=gaps | {"tail": "few known"}))
    assert row["verdict"] == "PASS; not judged: memory, tail"
    (row,) = cells(record(not_judged=gaps), record(Status.FAIL, check="invariant"))
    assert row["verdict"] == "FAIL (invariant); not judged: memory"


def test_the_verdict_is_the_worst_on_the_same_variant_and_names_its_check():
    others = [record(Status.FAIL, check="invariant"), record(Status.INCONCLUSIVE, check="optimized")]
    (row,) = cells(record(), *others)
    assert row["verdict"] == "FAIL (invariant)"


def test_another_variant_or_model_does_not_count():
    failed = (
        record(Status.FAIL, check="optimized", variant="awq"),
        record(Status.FAIL, check="optimized", model="other"),
    )
    (row,) = cells(record(), *failed)
    assert row["verdict"] == "PASS"


def test_the_least_of_all_loads_counts():
    (row,) = cells(record(), record(check="invariant", figures={"load_s": 0.25}))
    assert row["load s"] == "0.25"


def test_only_accuracy_makes_rows_and_without_any_there_is_no_table():
    assert render_methods([record(check="optimized"), record(check="invariant")], ENVIRONMENT) == ""
    assert len(cells(record(), record(variant="awq"), record(check="equivalent", variant="static_cache"))) == 2


def test_what_was_skipped_is_told_once_with_its_reason():
    skip = record(Status.SKIPPED, check="", variant="eetq", reason="gpu: needs a CUDA device")
    elsewhere = record(Status.SKIPPED, check="", variant="sdpa", nodeid="test_attention.py::t", reason="gpu")
    text = render_methods([record(), skip, skip, elsewhere], ENVIRONMENT)
    assert text.count("- eetq: gpu: needs a CUDA device") == 1
    assert "sdpa" not in text, "a skip in a file without rows is no method's"
    assert "Not run:" not in render_methods([record()], ENVIRONMENT)


def test_the_heading_names_the_machine_and_the_versions():
    first = render_methods([record()], ENVIRONMENT).splitlines()[0]
    assert first == "Measured on a CPU; Python 3.11.9, torch 2.13.0."
    assert render_methods([record()], ENVIRONMENT | {"gpus": ["H100"]}).startswith("Measured on H100; ")
