"""Calibrated quantizers: options are checked, the key holds all that decides, libraries are quiet until they fail."""

import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest

from pytest_llmopt.core.applying import apply
from pytest_llmopt.core.errors import ModelError, OptionError
from pytest_llmopt.core.loading import LoadPolicy, locate
from pytest_llmopt.core.optimization import build
from pytest_llmopt.engines._transformers.plan import LoadPlan
from pytest_llmopt.optimizations.quantization._calibrated import CalibratedQuantizer, model_folder
from pytest_llmopt.optimizations.quantization._quiet import quietly, seeded
from pytest_llmopt.optimizations.quantization._shapes import refuse_groups
from pytest_llmopt.optimizations.quantization.auto_round import AutoRound
from pytest_llmopt.optimizations.quantization.awq import Awq
from pytest_llmopt.optimizations.quantization.gptq import Gptq


@dataclass(frozen=True)
class Fake(CalibratedQuantizer):
    """Copies the calibration text."""

    packages: ClassVar[tuple[str, ...]] = ("numpy",)
    loading_options: ClassVar[frozenset[str]] = frozenset({"backend"})

    bits: int = 4
    backend: str = "auto"

    def quantize(self, plan, folder):  # noqa: ARG002 - the signature of all
        os.write(2, b"the library talks\n")
        folder.joinpath("text").write_text(str([prompt.text for prompt in self.calibration_prompts]))


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    folder.joinpath("model.safetensors").write_text("weights")
    return folder


@pytest.fixture
def made(model, tmp_path):
    """A function that gives the folder that a method loads."""

    def load(method, **changes):
        plan = LoadPlan(str(model), "float32", "cpu", LoadPolicy(cache=tmp_path / "cache"))
        plan = dataclasses.replace(plan, **changes)
        apply("transformers", "quantization.test", method, plan)
        return plan.weights

    return load


@pytest.mark.parametrize("kind", [Gptq, Awq, AutoRound])
@pytest.mark.parametrize("option", ["bits", "group_size"])
def test_a_value_that_the_method_does_not_have_is_refused_with_what_it_has(kind, option):
    with pytest.raises(OptionError, match=rf"{option}=7.5 is not possible; allowed: .*4"):
        kind(**{option: 7.5})


@pytest.mark.parametrize(
    ("kind", "options", "pieces"),
    [
        (Gptq, {"backend": "cutlass"}, ("backend='cutlass'", "'marlin'", "'torch'")),
        (Gptq, {"desc_act": "yes"}, ("desc_act='yes'", "True")),
        (Gptq, {"num_prompts": 0}, ("num_prompts=0", "a whole number from 1")),
        (Awq, {"format": "exl2"}, ("format='exl2'", "'gemv'")),
        (Awq, {"fuse_max_seq_len": 512}, ("fuse_max_seq_len=512", "Transformers 5", "omit")),
        (Awq, {"modules_to_fuse": ("attention",)}, ("modules_to_fuse", "omit")),
        (AutoRound, {"iters": -1}, ("iters=-1", "a whole number from 0")),
        (AutoRound, {"format": "auto_awq", "bits": 3}, ("bits=3", "auto_awq", "4")),
        (AutoRound, {"format": "auto_gptq", "backend": "torch"}, ("backend='torch'", "auto_gptq")),
    ],
)
def test_a_wrong_option_is_refused_with_both_sides(kind, options, pieces):
    with pytest.raises(OptionError) as raised:
        build(kind, "it", (), options)
    for piece in pieces:
        assert piece in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "config", "expected"),
    [
        (
            Gptq,
            {"bits": 3, "group_size": 64, "desc_act": True, "sym": False, "damp_percent": 0.1},
            Gptq(3, 64, desc_act=True, symmetric=False),
        ),
        (Awq, {"bits": 4, "group_size": 64, "zero_point": True, "version": "GEMM"}, Awq(4, 64)),
        (
            Awq,
            {"w_bit": 4, "q_group_size": 32, "zero_point": False, "version": "gemv"},
            Awq(4, 32, zero_point=False, format="gemv"),
        ),
        (Awq, {"bits": 4, "group_size": 128, "sym": True, "format": "gemm"}, Awq(zero_point=False)),
        (
            AutoRound,
            {"bits": 8, "group_size": 32, "sym": False, "iters": 7, "packing_format": "x"},
            AutoRound(8, 32, symmetric=False, iters=7),
        ),
    ],
)
def test_a_checkpoints_config_gives_the_options(kind, config, expected):
    assert kind.described_by(config) == expected


def test_rules_for_single_modules_are_not_ignored():
    with pytest.raises(OptionError, match=r"dynamic=.*down_proj"):
        Gptq.described_by({"bits": 4, "dynamic": {"-:.*down_proj": {}}})


def test_kernels_of_a_gpu_ask_for_one():
    assert [item.name for item in Gptq(backend="marlin").requirements] == ["gptqmodel", "optimum", "gpu"]
    assert [item.name for item in Awq(format="gemv").requirements] == ["gptqmodel", "gpu"]
    assert [item.name for item in Awq().requirements] == ["gptqmodel"]
    assert [item.name for item in AutoRound(format="auto_gptq").requirements] == ["auto-round", "gptqmodel", "optimum"]


def test_what_only_loading_decides_does_not_quantize_again(made):
    assert made(Fake()) == made(Fake(backend="torch"))


def test_options_prompts_text_dtype_and_model_are_in_the_key(made, model, tmp_path):
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": name}) + "\n" for name in "abc"))
    loads = [made(Fake()), made(Fake(bits=8)), made(Fake(num_prompts=2)), made(Fake(calibration=str(text)))]
    loads.append(made(Fake(), dtype="bfloat16"))
    text.write_text(json.dumps({"text": "z"}))
    loads.append(made(Fake(calibration=str(text))))
    model.joinpath("model.safetensors").write_text("other weights")
    loads.append(made(Fake()))
    assert len(set(loads)) == len(loads)


def test_what_is_quantized_already_is_loaded_and_never_quantized_again(made, model):
    config = {"quantization_config": {"quant_method": Fake.__module__.rpartition(".")[2].replace("_", "-")}}
    (model / "config.json").write_text(json.dumps(config))
    assert made(Fake()) is None
    with pytest.raises(OptionError, match=r"quantized\('gptq'\) is asked for, but .*: quant_method='test_calibrated'"):
        made(Gptq())


def test_another_version_of_the_library_quantizes_again(made, monkeypatch):
    before = made(Fake())
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "0.0")
    assert made(Fake()) != before


def test_a_calibration_file_is_used_whole_and_the_first_of_the_shipped_ones(tmp_path):
    text = tmp_path / "text.jsonl"
    text.write_text(json.dumps({"text": "a"}))
    assert [prompt.text for prompt in Fake(calibration=str(text)).calibration_prompts] == ["a"]
    assert len(Fake().calibration_prompts) == 32
    with pytest.raises(OptionError, match=r"num_prompts=2 .* has 1 prompts"):
        _ = Fake(calibration=str(text), num_prompts=2).calibration_prompts
    with pytest.raises(OptionError, match=r"calibration='nowhere.jsonl' is not a file"):
        _ = Fake(calibration="nowhere.jsonl").calibration_prompts


def test_a_group_that_does_not_divide_is_refused_with_the_module_and_both_numbers():
    plan = LoadPlan(locate("tiny-qwen"), "float32", "cpu", LoadPolicy())
    refuse_groups(plan, 64)
    refuse_groups(plan, -1)
    with pytest.raises(OptionError, match=r"group_size=256 does not divide the 128 columns of model\.layers\.0\."):
        refuse_groups(plan, 256)


def test_weights_that_can_execute_code_are_not_handed_to_a_library(model):
    model.joinpath("model.safetensors").rename(model / "pytorch_model.bin")
    plan = LoadPlan(str(model), "float32", "cpu", LoadPolicy())
    with pytest.raises(ModelError, match="unsafe-weights"):
        model_folder(plan)
    assert model_folder(dataclasses.replace(plan, policy=LoadPolicy(unsafe_weights=True))) == model


def test_a_library_is_quiet_while_all_is_well(capfd):
    with quietly("gptq: quantizing"):
        os.write(1, b"table\n")
        os.write(2, b"bar\n")
        sys.stderr.write("logged")
    assert capfd.readouterr() == ("", "")


def test_what_a_library_said_is_shown_when_it_fails(capfd):
    with pytest.raises(ModelError) as raised, quietly("gptq: quantizing tiny"):  # noqa: PT012
        os.write(2, b"from C++\n")
        sys.stdout.write("from Python")
        msg = "singular"
        raise ValueError(msg)
    for piece in ("gptq: quantizing tiny failed", "failed: singular", "from C++", "from Python"):
        assert piece in str(raised.value)
    sys.stdout.write("after")
    assert capfd.readouterr().out == "after"


def test_an_error_of_ours_is_passed_on_as_it_is():
    with pytest.raises(OptionError, match=r"^no$"), quietly("gptq"):
        raise OptionError("no")  # noqa: EM101


def test_quantizing_draws_from_a_seed_and_leaves_the_sessions_numbers_alone():
    import torch

    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    drawn = []
    for _ in range(2):
        with seeded():
            drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[1]
    assert torch.equal(torch.rand(2), expected)
