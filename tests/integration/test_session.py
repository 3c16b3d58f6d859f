"""What a run as a whole does: selection, stacking, skips, records of several workers, nothing heavy unasked."""

import subprocess
import sys

import pytest

from pytest_llmopt.core.requests import every_request


def test_a_run_without_our_tests_imports_no_model_library(project):
    project.makepyfile("""
        import sys

        def test_it():
            heavy = {"torch", "transformers", "scipy", "numpy", "rich", "typer"} & set(sys.modules)
            assert not heavy
            ours = {name for name in sys.modules if name.startswith("pytest_llmopt")}
            assert "pytest_llmopt.session" not in ours
    """)
    command = [sys.executable, "-m", "pytest", "-p", "no:benchmark", "-p", "no:hypothesispytest", "-p", "no:xdist"]
    result = subprocess.run([*command, "-q"], cwd=project.path, capture_output=True, text=True, check=False)
    assert "1 passed" in result.stdout, result.stdout


def test_markers_are_real_marks_that_select(project):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.gpu
        def test_bare(): pass
        @llmopt.gpu(memory="900 GiB", capability="8.0", count=2)
        def test_called(candidate): pass
        def test_other(): pass
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama", "-m", "llmopt_gpu", "-rs")
    result.assert_outcomes(skipped=2, deselected=1)
    result.stdout.fnmatch_lines(["*gpu: needs a CUDA device (this machine: none)*", "*needs 2 CUDA devices*"])


@pytest.mark.parametrize("required", ["gpu", "all", "draft,gpu"])
def test_a_required_requirement_fails_instead_of_skipping(project, required):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.gpu
        def test_it(): pass
    """)
    result = project.runpytest_inprocess("--llmopt-require", required)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*required by --llmopt-require gpu: needs a CUDA device*"] if required != "all" else []
    )


def test_a_misspelled_requirement_is_refused_since_it_would_let_a_gate_pass_by_skipping(project):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.gpu
        def test_it(): pass
    """)
    result = project.runpytest_inprocess("--llmopt-require", "gpuu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "unknown --llmopt-require 'gpuu'; did you mean 'gpu'?" in "\n".join(result.outlines + result.errlines)


def test_evidence_and_what_an_engine_can_be_asked_for_may_be_required(project):
    project.makepyfile("from pytest_llmopt import llmopt\n@llmopt.gpu\ndef test_it(): pass")
    names = ["evidence", *(kind.requirement() for kind in every_request())]
    assert {"score", "generate", "force_decode"} < set(names)
    result = project.runpytest_inprocess("--collect-only", "--llmopt-require", ",".join(names))
    assert result.ret == pytest.ExitCode.OK
    for wrong, nearest in {"evidense": "evidence", "force_decod": "force_decode"}.items():
        result = project.runpytest_inprocess("--collect-only", "--llmopt-require", wrong)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert f"did you mean '{nearest}'?" in "\n".join(result.outlines + result.errlines)


def test_the_requirement_of_an_optimization_is_named_with_the_way_to_get_it(project, records):
    project.makeconftest("""
        from dataclasses import dataclass
        from pytest_llmopt import Package, Promise

        @dataclass(frozen=True)
        class Exotic:
            promise = Promise.EQUIVALENT
            requirements = (Package("exotic-quantizer>=2", install="pip install exotic-quantizer --pre"),)
            conflicts = {}
            def for_transformers(self, plan): raise AssertionError("must not load")

        def pytest_llmopt_optimizations(config):
            return {"quantization.exotic": Exotic}
    """)
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.quantized("exotic")
        def test_it(candidate): pass
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(skipped=1)
    (record,) = records()
    assert record["status"] == "SKIPPED"
    assert "needs exotic-quantizer>=2, which is not installed: pip install exotic-quantizer --pre" in record["reason"]
    required = project.runpytest_inprocess("--llmopt-model", "tiny-llama", "--llmopt-require", "exotic")
    required.assert_outcomes(errors=1)


def test_markers_stack_on_functions_classes_modules_and_parameters(project):
    project.makepyfile("""
        import pytest
        from pytest_llmopt import llmopt

        pytestmark = llmopt.static_cache(max_cache_len=512)

        @llmopt.attention("eager")
        class TestStacked:
            def test_class(self, candidate, reference):
                assert candidate.variant.label == "attention(implementation=eager) + static_cache(max_cache_len=512)"
                assert reference.variant.label == "unoptimized"

            @llmopt.static_cache(max_cache_len=256)
            def test_function_wins(self, candidate):
                assert "max_cache_len=256" in candidate.variant.label

        @pytest.mark.parametrize("wanted", [
            pytest.param("eager", marks=llmopt.attention("eager")),
            pytest.param("sdpa", marks=llmopt.attention("sdpa")),
        ])
        def test_parameter(candidate, wanted):
            assert candidate.variant.optimizations[0].options.implementation == wanted

        @llmopt.against(llmopt.attention("eager"), dtype="float64")
        def test_against(candidate, reference):
            assert reference.dtype == "float64"
            assert candidate.dtype == "float32"

        @llmopt.model("tiny-qwen", "tiny-gemma")
        def test_model(candidate):
            assert candidate.variant.model in {"tiny-qwen", "tiny-gemma"}
    """)
    project.makeini("[pytest]\nllmopt_model = tiny-llama\n")
    project.runpytest_inprocess().assert_outcomes(passed=7)
    # The command line goes before the marker, the marker before the ini file.
    project.runpytest_inprocess("--llmopt-model", "tiny-llama", "-k", "test_model").assert_outcomes(
        failed=1, deselected=5
    )


def test_prompts_can_be_overridden_by_a_list_of_texts(project):
    project.makeconftest("""
        import pytest

        @pytest.fixture
        def prompts(): return ["import os", "x ="]
    """)
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.static_cache()
        def test_it(candidate, reference, prompts):
            verdict = llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=4)
            assert verdict.metrics["exact_prompts"].estimate.n == 4
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-llama").assert_outcomes(passed=1)


def test_an_empty_prompt_set_is_refused(project):
    project.makeconftest("import pytest\n\n@pytest.fixture\ndef prompts(): return []\n")
    project.makepyfile("""
        from pytest_llmopt import llmopt

        def test_it(candidate, reference, prompts):
            llmopt.assert_equivalent(candidate, reference, prompts)
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the prompt set is empty*"])


@pytest.mark.slow
def test_records_of_several_workers_are_merged(project, records):
    project.makepyfile("""
        import pytest
        from pytest_llmopt import llmopt

        @pytest.mark.parametrize("number", range(3))
        @llmopt.static_cache()
        def test_it(candidate, reference, prompts, number):
            llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=2)
    """)
    models = ["--llmopt-model", "tiny-llama,tiny-qwen"]
    result = project.runpytest_subprocess("-v", "-n", "2", "--dist", "loadgroup", "-p", "no:benchmark", *models)
    result.assert_outcomes(passed=6)
    # One candidate is one worker's: a model of each kind, and the three tests of it in one place.
    places = {(line.split()[0], line.split("@")[-1]) for line in result.outlines if line.startswith("[gw")}
    assert len(places) == 2
    result.stdout.fnmatch_lines(["*6 records: 6 PASS*"])
    nodeids = {record["nodeid"] for record in records()}
    assert len(nodeids) == 6
    assert not any("@" in nodeid for nodeid in nodeids)


def test_the_report_of_an_interrupted_run_keeps_what_was_decided(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.static_cache()
        def test_first(candidate, reference, prompts):
            llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=2)

        @llmopt.static_cache()
        def test_second(candidate):
            raise KeyboardInterrupt
    """)
    result = project.runpytest_subprocess("--llmopt-model", "tiny-llama", "-p", "no:benchmark")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert [record["status"] for record in records()] == ["PASS"]


def test_the_report_describes_its_environment(project):
    import json

    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.static_cache()
        def test_it(candidate, reference, prompts):
            llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=2)
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-llama", "--llmopt-report", "out/here.json").assert_outcomes(
        passed=1
    )
    report = json.loads(project.path.joinpath("out/here.json").read_text())
    assert report["environment"]["packages"]["torch"]
    assert set(report["records"][0]) >= {
        "nodeid",
        "check",
        "model",
        "variant",
        "status",
        "metrics",
        "seconds",
        "reason",
    }
