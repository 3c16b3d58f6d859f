"""Devices, backends, engines and models that do not exist end a run at collection; what may be missing is a skip."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from broken_models import WEIGHTS, copied
from sides import open_side

from pytest_llmopt.core.errors import ModelError, OptionError, RequirementMissingError
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.engines._transformers.precheck import precheck as refuse_early

NEVER = ("Traceback", "INTERNALERROR", "IndexError", "KeyError", "must not run")
"""What the output of a refused run never holds."""
REFUSED_RUN = (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED)
"""How a run ends that ran no test."""
TEST = """
from pytest_llmopt import llmopt

{markers}
def test_it(candidate, reference):
    raise AssertionError("must not run")
"""


def precheck(device="cpu", optimization=None, dtype="auto", **options):
    """What is found out before loading."""
    applied = ()
    if optimization is not None:
        kind = Registry("optimizations", "optimization").load(optimization)
        applied = (Applied(optimization, build(kind, optimization, (), options)),)
    refuse_early(Variant("tiny-llama", applied, dtype, device), LoadPolicy())


@pytest.fixture(scope="module")
def no_cuda():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")


@pytest.mark.parametrize(
    "device",
    ["tpu", "meta", "disk", "balanced", "", " cpu", "CPU", "cpu:3", "cpu:x", "cuda:x", "cuda:-1", "cuda:", "vulkan", 5],
)
def test_a_word_that_is_no_device_is_refused_with_what_is_here(device):
    with pytest.raises(OptionError) as raised:
        precheck(device)
    for piece in (f"there is no device {device!r}".replace("5", "'5'"), "--llmopt-device takes one of auto, cpu"):
        assert piece in str(raised.value)


@pytest.mark.parametrize(("device", "near"), [("CPU", "cpu"), ("gpu", "cuda"), ("cuda0", "cuda")])
def test_a_slip_in_a_device_names_the_nearest(device, near):
    with pytest.raises(OptionError, match=f"did you mean {near!r}"):
        precheck(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_a_cuda_device_that_is_not_here_is_a_missing_requirement(no_cuda, device):
    with pytest.raises(RequirementMissingError, match="this machine: none") as raised:
        precheck(device)
    assert raised.value.name == "gpu"


@pytest.mark.parametrize("device", ["auto", "cpu", "cpu:0"])
def test_what_is_everywhere_is_accepted(device):
    precheck(device)


BACKENDS = {
    "attention of no name": ("kernels.attention", {"implementation": "flashh"}, ("'flashh'", "sdpa", "conftest.py")),
    "attention with a slip": ("kernels.attention", {"implementation": "eagre"}, ("did you mean 'eager'?",)),
    "attention in capitals": ("kernels.attention", {"implementation": "SDPA"}, ("did you mean 'sdpa'?",)),
    "attention without a name": ("kernels.attention", {"implementation": ""}, ("implementation=''", "give a text")),
    "attention of batching": ("kernels.attention", {"implementation": "paged|eager"}, ("did you mean 'eager'?",)),
    "compiler with a slip": ("decoding.compiled", {"backend": "inductorr"}, ("did you mean 'inductor'?",)),
    "compiler of no name": ("decoding.compiled", {"backend": ""}, ("backend=''", "give a text")),
    "compiler that is a number": ("decoding.compiled", {"backend": 5}, ("backend=5", "give a text")),
    "compiler that nobody has": (
        "decoding.compiled",
        {"backend": "mine"},
        ("backend='mine'", "inductor", "conftest.py"),
    ),
    "mode of a decode step": ("decoding.static_cache", {"compile": True, "mode": "fast"}, ("'fast'", "'max-autotune'")),
    "mode of the compiler": ("decoding.compiled", {"mode": "fast"}, ("mode='fast'", "'max-autotune'")),
    "cache": ("decoding.quantized_cache", {"backend": "quantoo"}, ("backend='quantoo'", "'quanto', 'hqq', 'fp8'")),
}


@pytest.mark.parametrize("case", BACKENDS)
def test_a_backend_that_does_not_exist_is_refused_before_loading(case):
    optimization, options, expected = BACKENDS[case]
    with pytest.raises(OptionError) as raised:
        precheck(optimization=optimization, **options)
    for piece in expected:
        assert piece in str(raised.value)


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_backends_of_torch_are_accepted(backend):
    precheck(optimization="decoding.compiled", backend=backend)


def test_attention_that_is_registered_is_accepted(monkeypatch):
    from transformers import AttentionInterface

    monkeypatch.setitem(AttentionInterface._global_mapping, "mine", lambda *_: None)
    precheck(optimization="kernels.attention", implementation="mine")


@pytest.mark.parametrize(
    ("optimization", "options", "needed"),
    [
        ("kernels.attention", {"implementation": "kernels-community/flash-attn"}, "kernels"),
        ("kernels.attention", {"implementation": "flash_attention_4"}, "gpu"),
        ("decoding.compiled", {"backend": "tvm"}, "apache-tvm"),
    ],
)
def test_a_backend_whose_package_is_missing_is_a_missing_requirement(no_cuda, optimization, options, needed):
    applied = (Applied(optimization, Registry("optimizations", "optimization").load(optimization)(**options)),)
    if not any(item.missing() for item in applied[0].options.requirements):
        pytest.skip(f"{needed} is installed")
    with pytest.raises(RequirementMissingError) as raised:
        open_side(Variant("tiny-llama", applied, device="cpu"), LoadPolicy())
    assert raised.value.name == needed


@dataclass(frozen=True)
class Stumbles:
    """An optimization of somebody else that stumbles when it is asked."""

    requirements = ()

    def precheck(self, model, policy):  # noqa: ARG002 - every optimization is told
        raise KeyError(model)


def test_what_stumbles_when_it_is_asked_is_told_in_a_sentence():
    variant = Variant("tiny-llama", (Applied("planted.stumbles", Stumbles()),), device="cpu")
    with pytest.raises(
        ModelError, match=r"stumbles of 'tiny-llama' cannot be looked at: there is no 'tiny-llama'; check"
    ):
        refuse_early(variant, LoadPolicy())


REFUSED = {
    "a slip in a model": ("", ["--llmopt-model=tiny-lama"], ("candidate: ", "did you mean 'tiny-llama'")),
    "two models, one of them absent": ("", ["--llmopt-model=tiny-llama,/nowhere"], ("[nowhere]", "does not exist")),
    "an id of the hub": ("", ["--llmopt-model=nobody/nothing"], ("'nobody/nothing'", "--llmopt-download")),
    "a device of no name": ("", ["--llmopt-device=tpu"], ("there is no device 'tpu'", "takes one of auto, cpu")),
    "no CUDA": ("", ["--llmopt-device=cuda"], ("needs a CUDA device", "this machine: none")),
    "no seventh CUDA device": ("", ["--llmopt-device=cuda:7"], ("needs 8 CUDA devices",)),
    "an engine": ("", ["--llmopt-engine=nope"], ("unknown engine 'nope'", "transformers")),
    "a draft": ("@llmopt.assisted()", ["--llmopt-draft=tiny-llama-darft"], ("did you mean 'tiny-llama-draft'",)),
    "a device of a marker": ('@llmopt.against(device="tpu")', [], ("reference: ", "there is no device 'tpu'")),
    "an attention": ('@llmopt.attention("flashh")', [], ("'flashh' does not exist", "sdpa")),
    "an attention of the reference": ('@llmopt.against(llmopt.attention("flashh"))', [], ("reference: ", "'flashh'")),
    "a compiler": ('@llmopt.compiled(backend="inductorr")', [], ("did you mean 'inductor'?",)),
    "a file": ('@llmopt.against(model="prompts.jsonl")', [], ("reference: ", "'prompts.jsonl' is a file")),
    "a checkpoint": ('@llmopt.quantized(checkpoint="tiny-qwen")', [], ("'tiny-qwen' is not quantized",)),
    "an adapter": ('@llmopt.lora("tiny-qwen")', [], ("'tiny-qwen' is a whole model",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_exist_ends_the_run_before_its_first_test(project, no_cuda, case):
    markers, options, expected = REFUSED[case]
    if "lora" in markers:
        pytest.importorskip("peft")
    project.makepyfile(TEST.format(markers=markers))
    result = project.runpytest_inprocess("--llmopt-model=tiny-llama", *options)
    text = "\n".join(result.outlines + result.errlines)
    assert result.ret in REFUSED_RUN
    for piece in ("test_it", *expected):
        assert piece in text
    for piece in NEVER:
        assert piece not in text


def test_many_tests_of_one_absent_model_are_told_in_one_line(project):
    project.makepyfile("import pytest\n@pytest.mark.parametrize('n', range(40))\ndef test_it(candidate, n): pass")
    result = project.runpytest_inprocess("--llmopt-model=tiny-lama")
    text = "\n".join(result.outlines + result.errlines)
    assert "(and in 39 more tests)" in text
    assert text.count("did you mean") == 1


def test_an_absent_model_is_found_out_without_importing_torch(project):
    project.makeconftest("""
        import sys

        def pytest_unconfigure():
            print("heavy:", sorted({"torch", "transformers", "huggingface_hub"} & set(sys.modules)))
    """)
    project.makepyfile("def test_it(candidate): pass")
    result = project.runpytest_subprocess("--llmopt-model=tiny-lama", "-p", "no:benchmark")
    assert result.ret in REFUSED_RUN
    result.stdout.fnmatch_lines(["heavy: []"])


def test_a_cuda_device_in_a_marker_is_a_requirement(project, no_cuda):
    project.makepyfile(TEST.format(markers='@llmopt.against(device="cuda:1")'))
    result = project.runpytest_inprocess("--llmopt-model=tiny-llama", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*gpu: needs 2 CUDA devices (this machine: none)*"])
    project.runpytest_inprocess("--llmopt-model=tiny-llama", "--llmopt-require=gpu").assert_outcomes(errors=1)


def test_a_test_that_is_skipped_for_its_requirement_still_is(project, no_cuda):
    """Neither its absent model nor its broken checkpoint has a say where the GPU is missing."""
    broken = copied(project.path / "broken", "tiny-llama-gptq", without=(WEIGHTS,))
    project.makepyfile(TEST.format(markers=f'@llmopt.gpu\n@llmopt.quantized(checkpoint="{broken}")'))
    project.runpytest_inprocess("--llmopt-model=nobody/nothing").assert_outcomes(skipped=1)


def test_what_a_marker_names_may_be_made_by_a_fixture(project):
    """It is looked for again when the test runs; the others go on where it is not made."""
    project.makepyfile(f"""
        import shutil
        import pytest
        from pytest_llmopt import llmopt

        @pytest.fixture(scope="session")
        def exported(tmp_path_factory):
            shutil.copytree({str(copied(project.path / "source"))!r}, "exported")

        @llmopt.model("./exported")
        def test_made(exported, candidate): assert candidate.vocab_size == 1024

        @llmopt.model("nobody/nothing")
        def test_absent(candidate): raise AssertionError("must not run")

        @llmopt.model("tiny-llama")
        @llmopt.lora("./not-made")
        def test_adapter(candidate): raise AssertionError("must not run")

        def test_other(): pass
    """)
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=2, errors=2)
    text = result.stdout.str()
    for piece in ("the model 'nobody/nothing' is not on this machine", "the adapter './not-made' does not exist"):
        assert piece in text
    for piece in NEVER:
        assert piece not in text
