"""A checkpoint's `quantization_config`, as the library itself writes it, gives the options that made it."""

import json

import pytest

from pytest_llmopt.core.applying import apply
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.loading import LoadPolicy, locate
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.engines._transformers.plan import LoadPlan

OPTIMIZATIONS = Registry("optimizations", "optimization")
OPTIONS = [
    ("bitsandbytes", {"bits": 4, "double_quant": True, "compute_dtype": "bfloat16"}),
    ("bitsandbytes", {"bits": 4, "quant_type": "fp4", "compute_dtype": "float32"}),
    ("bitsandbytes", {"bits": 8, "threshold": 3.0}),
    ("torchao", {"scheme": "int8_weight_only", "group_size": 64}),
    ("torchao", {"scheme": "int8_weight_only", "group_size": -1}),
    ("torchao", {"scheme": "int8_dynamic_activation"}),
    ("torchao", {"scheme": "int4_weight_only", "group_size": 64, "layout": "opaque"}),
    ("torchao", {"scheme": "intx_weight_only", "bits": 3, "group_size": 128, "symmetric": False}),
    (
        "torchao",
        {"scheme": "int8_dynamic_activation_intx_weight", "bits": 5, "group_size": -1, "symmetric": True},
    ),
    ("torchao", {"scheme": "float8_weight_only"}),
    ("quanto", {"weights": "int4"}),
]


def written_by(optimization):
    plan = LoadPlan(locate("tiny-llama"), "float32", "cpu", LoadPolicy())
    apply("transformers", "", optimization, plan)
    return json.loads(plan.load["quantization_config"].to_json_string(use_diff=False))


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_what_the_library_writes_is_read_again(name, options):
    pytest.importorskip({"quanto": "optimum.quanto"}.get(name, name))
    kind = OPTIMIZATIONS.load(f"quantization.{name}")
    assert kind.described_by(written_by(kind(**options))) == kind(**options)


def test_hqq_options_lie_two_levels_down():
    kind = OPTIMIZATIONS.load("quantization.hqq")
    inner = {"nbits": 3, "group_size": None, "axis": 0, "channel_wise": True}
    config = {"quant_method": "hqq", "quant_config": {"weight_quant_params": inner}}
    assert kind.described_by(config, backend="gemlite") == kind(3, -1, 0, backend="gemlite")


def test_a_config_that_nobody_here_knows_is_refused_by_its_name():
    kind = OPTIMIZATIONS.load("quantization.torchao")
    with pytest.raises(OptionError, match="FqnToConfig; known here: Float8"):
        kind.described_by({"quant_type": {"default": {"_type": "FqnToConfig", "_data": {}}}})


def test_bitsandbytes_without_a_width_is_refused():
    with pytest.raises(OptionError, match="bits=None"):
        OPTIMIZATIONS.load("quantization.bitsandbytes").described_by({"load_in_8bit": False})
