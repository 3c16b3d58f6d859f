"""Methods that Transformers has a config for: each hands over every option, reads it back, and says what it needs."""

import pytest

from pytest_llmopt.core.applying import apply
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.requirements import Cuda
from pytest_llmopt.engines._transformers.plan import LoadPlan
from pytest_llmopt.optimizations.quantization._integrated import LibraryQuantizer

OPTIMIZATIONS = Registry("optimizations", "optimization")
WHILE_LOADING = ("eetq", "fbgemm_fp8", "fp8", "fp_quant", "higgs", "mxfp4", "nvfp4", "sinq")
CHECKPOINTS_ONLY = ("aqlm", "bitnet", "quark", "spqr", "vptq")
NEED_A_GPU = ("eetq", "fbgemm_fp8", "fp8", "fp_quant", "higgs", "nvfp4", "sinq", "spqr", "vptq")


def method(name, **options):
    return build(OPTIMIZATIONS.load(f"quantization.{name}"), name, (), options)


@pytest.mark.parametrize("name", WHILE_LOADING)
def test_every_option_reaches_the_config_of_transformers(name):
    from transformers.utils import quantization_config

    item = method(name)
    config = getattr(quantization_config, item.config_class)(**item.config())
    assert isinstance(item, LibraryQuantizer)
    for key, value in item.config().items():
        if value is not None:
            assert getattr(config, key) == value


@pytest.mark.parametrize("name", WHILE_LOADING)
def test_a_config_of_transformers_gives_the_options_back(name):
    from transformers.utils import quantization_config

    item = method(name)
    config = getattr(quantization_config, item.config_class)(**item.config()).to_dict()
    again = type(item).described_by(config)
    assert again.accuracy_limits == item.accuracy_limits
    assert again.bytes_per_weight == item.bytes_per_weight


@pytest.mark.parametrize("name", CHECKPOINTS_ONLY)
def test_what_loads_checkpoints_only_says_what_to_write(name):
    plan = LoadPlan("tiny-llama", "float32", "cpu", LoadPolicy())
    with pytest.raises(OptionError, match=rf"write quantized\('{name}', checkpoint=\.\.\.\)"):
        apply("transformers", f"quantization.{name}", method(name), plan)


@pytest.mark.parametrize("name", NEED_A_GPU)
def test_what_needs_a_gpu_says_so(name):
    assert any(isinstance(item, Cuda) for item in method(name).requirements)


def test_unpacking_a_checkpoint_needs_no_gpu_and_quantizing_does():
    assert method("fp8", dequantize=True).requirements == ()
    plan = LoadPlan("m", "float32", "cpu", LoadPolicy())
    with pytest.raises(OptionError, match="checkpoint="):
        apply("transformers", "quantization.fp8", method("fp8", dequantize=True), plan)


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("aqlm", {"nbits_per_codebook": 8, "num_codebooks": 2}, 0.25),
        ("vptq", {"config_for_layers": {"a": {"vector_lens": [-1, 8], "num_centroids": [-1, 256]}}}, 0.125),
        ("fp8", {"weight_block_size": [1, 64], "scale_fmt": "ue8m0"}, 1 + 1 / 64),
        ("quark", {"global_quant_config": {"weight": {"dtype": "int4"}}}, 0.5),
        ("bitnet", {"linear_class": "autobitlinear"}, 2.0),
    ],
)
def test_a_checkpoint_states_what_it_weighs(name, config, expected):
    assert OPTIMIZATIONS.load(f"quantization.{name}").described_by(config).bytes_per_weight == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "options", "pieces"),
    [
        ("higgs", {"bits": 5}, ["bits=5", "2, 3, 4"]),
        ("higgs", {"hadamard_size": 100}, ["group_size=256", "hadamard_size=100"]),
        ("sinq", {"group_size": 30}, ["group_size=30", "multiples of 8"]),
        ("fp_quant", {"forward_method": "quest"}, ["'quest'", "'abs_max'"]),
        ("spqr", {"bits": 4}, ["bits=4", "allowed: 3"]),
        ("fp8", {"block_rows": 0}, ["block_rows=0"]),
        ("fbgemm_fp8", {"activation_scale_ub": -1.0}, ["activation_scale_ub=-1.0"]),
        ("quark", {"dtype": "int3"}, ["'int3'", "'int4'"]),
        ("bitnet", {"linear_class": "linear"}, ["'linear'", "'bitlinear'"]),
    ],
)
def test_an_option_that_is_not_possible_is_refused_with_both_sides(name, options, pieces):
    with pytest.raises(OptionError) as raised:
        method(name, **options)
    assert all(piece in str(raised.value) for piece in pieces)
