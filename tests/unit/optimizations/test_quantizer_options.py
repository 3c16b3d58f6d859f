"""Values that a method does not have are refused before anything is loaded, with what it has."""

import pytest

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.registry import Registry

OPTIMIZATIONS = Registry("optimizations", "optimization")
WRONG = [
    ("quantization.bitsandbytes", {"bits": 3}, ["bits=3", "4, 8"]),
    ("quantization.bitsandbytes", {"bits": 8, "double_quant": True}, ["double_quant=True", "bits=8", "bits=4"]),
    ("quantization.bitsandbytes", {"bits": 4, "threshold": 1.0}, ["threshold=1.0", "bits=4", "bits=8"]),
    ("quantization.bitsandbytes", {"bits": 8, "threshold": -1}, ["threshold=-1", "from 0"]),
    ("quantization.torchao", {"scheme": "int5"}, ["'int5'", "'intx_weight_only'"]),
    ("quantization.torchao", {"bits": 4}, ["bits of int8_weight_only=4", "None, 8"]),
    ("quantization.torchao", {"scheme": "intx_weight_only", "bits": 9}, ["=9", "7, 8"]),
    ("quantization.torchao", {"scheme": "int4_weight_only", "group_size": 16}, ["=16", "128, 32, 64, 256"]),
    ("quantization.torchao", {"symmetric": False}, ["symmetric of int8_weight_only=False", "None"]),
    ("quantization.torchao", {"layout": "plain"}, ["layout='plain'", "int4_weight_only"]),
    ("quantization.hqq", {"bits": 7}, ["bits=7", "8, 6, 5, 4, 3, 2, 1"]),
    ("quantization.hqq", {"group_size": 20}, ["group_size=20", "multiples of 8"]),
    ("quantization.hqq", {"axis": 2}, ["axis=2", "0, 1"]),
    ("quantization.hqq", {"backend": "torchao_int4", "bits": 3}, ["bits=4", "bits=3"]),
    ("quantization.quanto", {"weights": "int3"}, ["'int3'", "'int4'"]),
    ("quantization.quanto", {"calibration": "mine.jsonl"}, ["'mine.jsonl'", "activations"]),
    ("decoding.quantized_cache", {"nbits": 8}, ["nbits of quanto=8", "None, 4, 2"]),
    ("decoding.quantized_cache", {"backend": "fp8", "group_size": 64}, ["group_size=64", "fp8"]),
    ("decoding.quantized_cache", {"residual_length": 0}, ["residual_length=0", "from 1"]),
    ("decoding.quantized_cache", {"backend": "hqq", "axis_key": -1}, ["axis_key of hqq=-1", "None, 0, 1"]),
]


@pytest.mark.parametrize(("name", "options", "pieces"), WRONG)
def test_a_wrong_value_is_refused_with_what_is_allowed(name, options, pieces):
    with pytest.raises(OptionError) as raised:
        build(OPTIMIZATIONS.load(name), name, (), options)
    assert all(piece in str(raised.value) for piece in pieces), str(raised.value)


def test_what_a_cpu_cannot_run_names_what_it_needs():
    torchao = OPTIMIZATIONS.load("quantization.torchao")
    hqq = OPTIMIZATIONS.load("quantization.hqq")
    needs = {item.name for item in torchao(scheme="float8_dynamic_activation").requirements}
    assert needs == {"torchao", "gpu"}
    assert {item.name for item in torchao(scheme="int4_weight_only", layout="plain").requirements} >= {"gpu", "mslk"}
    assert {item.name for item in hqq(backend="gemlite").requirements} == {"hqq", "gpu", "gemlite"}
    assert {item.name for item in torchao().requirements} == {"torchao"}


def test_only_what_runs_packed_code_needs_a_compiler():
    quanto = OPTIMIZATIONS.load("quantization.quanto")
    assert "compiler" in {item.name for item in quanto(weights="int4").requirements}
    assert "compiler" not in {item.name for item in quanto(weights="int8").requirements}


def test_a_missing_compiler_is_named(monkeypatch):
    from pytest_llmopt.core.requirements import Compiler

    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    assert "no-such-compiler is not on the path" in Compiler().missing()


def test_a_part_of_a_package_that_is_not_installed_is_missing():
    from pytest_llmopt.core.requirements import Package

    assert "not installed" in Package("no-such-package", module="no_such_package.part").missing()


FIGURES = [
    ("quantization.bitsandbytes", {"bits": 8}, 8, "channel"),
    ("quantization.bitsandbytes", {"bits": 4}, 4, 64),
    ("quantization.torchao", {"scheme": "intx_weight_only", "bits": 3}, 3, 32),
    ("quantization.torchao", {"scheme": "float8_weight_only"}, 8, "channel"),
    ("quantization.hqq", {"bits": 3, "group_size": -1}, 3, "channel"),
    ("quantization.quanto", {"weights": "int4"}, 4, 128),
    ("quantization.quanto", {"weights": "float8"}, 8, "channel"),
    ("quantization.gptq", {}, 4, 128),
    ("quantization.compressed_tensors", {"scheme": "W4A16"}, 4, 128),
    ("quantization.compressed_tensors", {"scheme": "W8A8"}, 8, "channel"),
    ("quantization.compressed_tensors", {"scheme": "FP8"}, 8, "tensor"),
    ("quantization.gguf", {"quant_type": "Q4_0"}, 4.5, 32),
    ("decoding.quantized_cache", {"backend": "quanto", "nbits": 2}, "KV 2", 64),
]


@pytest.mark.parametrize(("name", "options", "bits", "group"), FIGURES)
def test_the_figures_say_bits_and_what_shares_a_scale(name, options, bits, group):
    assert build(OPTIMIZATIONS.load(name), name, (), options).figures == {"bits": bits, "group": group}
