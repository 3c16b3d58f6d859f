"""The engine of `docs/how-to/add-an-engine.md`, added in a conftest: it applies our optimizations, in one file."""

import json
import re
from pathlib import Path

import pytest

SHOWN = (Path(__file__).parent.parent.parent / "docs" / "how-to" / "add-an-engine.md").read_text(encoding="utf-8")
ENGINE = re.search(r"`llmopt_extras/uncached.py`:\n\n```python\n(.*?)```", SHOWN, re.DOTALL)[1]
HOOK = """
from uncached import Uncached


def pytest_llmopt_engines(config):
    return {"uncached": Uncached}
"""
CHECK = """
from pytest_llmopt import llmopt

SAME = {marks}


@llmopt.engine("uncached")
@SAME
@llmopt.against({against}engine="transformers")
{isolated}
def test_it(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, num_prompts=2, max_new_tokens=8)
"""


@pytest.fixture
def project(project):
    project.makepyfile(uncached=ENGINE)
    project.makeconftest(HOOK)
    project.syspathinsert()
    return project


def judged(project, marks, *, against="SAME, ", isolated=""):
    project.makepyfile(CHECK.format(marks=marks, against=against, isolated=isolated))
    return project.runpytest_inprocess("--llmopt-model", "tiny-llama")


@pytest.mark.parametrize("method", [pytest.param("gptq", marks=pytest.mark.slow), "compressed_tensors"])
def test_it_loads_the_checkpoint_that_is_produced_and_one_that_is_named(project, records, method):
    pytest.importorskip({"gptq": "gptqmodel"}.get(method, method))
    options = {"gptq": "bits=8, group_size=64", "compressed_tensors": 'scheme="W8A16"'}[method]
    judged(project, f"llmopt.quantized({method!r}, {options})").assert_outcomes(passed=1)
    (made,) = project.path.glob(f".llmopt/**/quantized/tiny-llama-{method}-*/config.json")
    found = json.loads(made.read_text())["quantization_config"]["quant_method"]
    assert found.replace("-", "_") == method
    for name in (f"{method!r}, ", ""):
        judged(project, f"llmopt.quantized({name}checkpoint={str(made.parent)!r})").assert_outcomes(passed=1)
        (record,) = records()
        assert record["status"] == "PASS"


def test_it_has_an_applier_of_its_own_in_its_own_process_too(project, records):
    judged(project, 'llmopt.attention("eager")', isolated="@llmopt.isolated()").assert_outcomes(passed=1)
    (record,) = records()
    assert record["status"] == "PASS"


@pytest.mark.parametrize(
    ("marks", "name"),
    [
        ("llmopt.static_cache(max_cache_len=64)", "decoding.static_cache"),
        ('llmopt.quantized("auto_round")', "quantization.auto_round"),
    ],
)
def test_what_it_neither_applies_nor_loads_is_refused_at_collection(project, marks, name):
    result = judged(project, marks, against="")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{name} cannot run on engine 'uncached'; it can on: transformers*"])


def test_a_checkpoint_of_a_method_that_it_does_not_load_is_refused_at_collection(project):
    folder = project.path / "awq"
    folder.mkdir()
    stated = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": stated}))
    result = judged(project, f"llmopt.quantized(checkpoint={str(folder)!r})", against="")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*quantization.configured cannot run on engine 'uncached'*"])
