"""One bad group of weights is seen in whatever library holds them, and honest groups of all of them are not."""

import numpy as np
import pytest
import torch
from sides import open_side, running_of

from pytest_llmopt.checks._quantized.group_claims import group_claims
from pytest_llmopt.checks._quantized.modules import measure
from pytest_llmopt.checks.optimized import optimized
from pytest_llmopt.core.claims import Use
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.core.weight_format import WeightFormat

MODEL = "tiny-qwen"


def applied(method, **options):
    name = f"quantization.{method}"
    built = build(Registry("optimizations", "optimization").load(name), name, (), options)
    for need in built.requirements:
        if (missing := need.missing()) is not None:
            pytest.skip(missing)
    return (Applied(name, built),)


def opened(method=None, model=MODEL, **options):
    optimizations = applied(method, **options) if method else ()
    return open_side(Variant(str(model), optimizations, dtype="float32", device="cpu"), LoadPolicy(threads=1))


@pytest.fixture(scope="module")
def reference():
    return opened()


def claims_of(candidate, reference):
    """The claims about groups, and those that are untrue."""
    use = Use(candidate.inspect(), reference.inspect(), (), 0, 0, np.zeros(1), candidate.dtype)
    form = candidate.variant.optimizations[0].options.weight_format
    found, _ = measure(form, candidate, reference, use, seed=0)
    claims = {claim.name: claim for claim in group_claims(form, found)}
    return claims, {name for name, claim in claims.items() if claim.metric.status is not Status.PASS}


def spoil(candidate, name, change):
    with torch.no_grad():
        change(running_of(candidate).loaded.model.get_submodule(name))


def times(factor):
    """Of one block of 64 weights that bitsandbytes keeps a scale for: the third of the second row."""

    def change(module):
        module.weight.quant_state.absmax[5] *= factor

    return change


def nested_code(module):
    absmax = module.weight.quant_state.absmax
    absmax[5] = 255 if absmax[5] < 128 else 0


def flipped_code(module):
    """The two codes of one byte become the outermost."""
    module.weight.data.view(-1)[100] = 0xF0 if int(module.weight.data.view(-1)[100]) != 0xF0 else 0x0F


def blocks_swapped(module):
    packed = module.weight.data.view(-1)
    packed[:64] = packed[:64].roll(32)


def hqq_scale(factor):
    def change(module):
        scale = module.meta["scale"].clone()
        scale.view(-1)[3] *= factor
        module.meta["scale"] = scale

    return change


def hqq_zero(module):
    zero = module.meta["zero"].clone()
    zero.view(-1)[3] += 1
    module.meta["zero"] = zero


def row_scale(factor):
    def change(module):
        module.weight.scale.view(-1)[7] *= factor

    return change


def quanto_scale(module):
    module.weight._scale.view(-1)[3] *= 1.5


def int8_code(module):
    module.weight.qdata[7, 11] = 127 if module.weight.qdata[7, 11] < 64 else -127


def rows_swapped(module):
    module.weight.qdata[[7, 8]] = module.weight.qdata[[8, 7]]


def each(*cases):
    return [pytest.param(*case, id=case[0]) for case in cases]


@pytest.mark.parametrize(
    ("what", "method", "options", "place", "change"),
    each(
        ("nf4 x1.5", "bitsandbytes", {}, "model.layers.0.self_attn.k_proj", times(1.5)),
        ("nf4 x0", "bitsandbytes", {}, "model.layers.3.mlp.down_proj", times(0.0)),
        ("nf4 x2", "bitsandbytes", {}, "model.layers.1.mlp.up_proj", times(2.0)),
        ("fp4 x8", "bitsandbytes", {"quant_type": "fp4"}, "model.layers.2.self_attn.o_proj", times(8.0)),
        ("nested scale", "bitsandbytes", {"double_quant": True}, "model.layers.2.mlp.gate_proj", nested_code),
        ("nf4 code", "bitsandbytes", {}, "model.layers.2.self_attn.v_proj", flipped_code),
        ("nf4 blocks", "bitsandbytes", {}, "model.layers.2.self_attn.q_proj", blocks_swapped),
        ("hqq4 x1.5", "hqq", {"bits": 4}, "model.layers.0.mlp.down_proj", hqq_scale(1.5)),
        ("hqq4 x0", "hqq", {"bits": 4}, "model.layers.1.self_attn.q_proj", hqq_scale(0.0)),
        ("hqq3 zero", "hqq", {"bits": 3}, "model.layers.1.mlp.gate_proj", hqq_zero),
        ("hqq2 x1.5", "hqq", {"bits": 2}, "model.layers.1.mlp.up_proj", hqq_scale(1.5)),
        ("int8 row x1.5", "torchao", {}, "model.layers.3.self_attn.o_proj", row_scale(1.5)),
        ("int8 code", "torchao", {}, "model.layers.0.self_attn.v_proj", int8_code),
        ("int8 rows", "torchao", {}, "model.layers.0.mlp.up_proj", rows_swapped),
        ("intx4 x1.5", "torchao", {"scheme": "intx_weight_only"}, "model.layers.1.mlp.down_proj", row_scale(1.5)),
        ("quanto int4 x1.5", "quanto", {"weights": "int4"}, "model.layers.1.mlp.down_proj", quanto_scale),
    ),
)
def test_one_bad_group_or_code_is_found_and_named(reference, what, method, options, place, change):
    candidate = opened(method, **options)
    spoil(candidate, place, change)
    claims, untrue = claims_of(candidate, reference)
    assert untrue, what
    for name in untrue:
        assert claims[name].otherwise.startswith(f"{place}, row ")


def test_the_message_names_row_columns_and_factor(reference):
    candidate = opened("bitsandbytes")
    spoil(candidate, "model.layers.0.mlp.up_proj", times(1.5))
    verdict = optimized(candidate, reference, ["def longest(names):\n    return max(names, key=len)\n"] * 3)
    assert verdict.status is Status.FAIL
    (line,) = [line for line in verdict.diagnosis if line.startswith("group_error")]
    assert "model.layers.0.mlp.up_proj, row 2, columns 64 to 127" in line
    assert "1.50 times" in line


def zoo_gptq(model):
    return opened("configured", model, checkpoint=f"{model}-gptq")


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_checkpoint_of_gptq_is_held_to_its_groups_too(reference):
    """Its weights are tuned, so that the bound is wide; what one scale in another place does is wider."""
    candidate = opened("configured", checkpoint=f"{MODEL}-gptq")
    place = "model.layers.2.self_attn.k_proj"
    assert claims_of(candidate, reference)[1] == set()

    def change(factor):
        def scale(module):
            # What it keeps was packed for the kernel in the first forward pass.
            kept = next(
                tensor
                for name in ("scales_and_zeros", "scales")
                if (tensor := getattr(module, name, None)) is not None and tensor.is_floating_point()
            )
            kept.data[0, 3] *= factor

        return scale

    for factor in (1.5, 0.0):
        spoil(candidate, place, change(factor))
        claims, untrue = claims_of(candidate, reference)
        assert "group_gain" in untrue
        assert all(claims[name].otherwise.startswith(f"{place}, row 3, ") for name in untrue)


def test_every_group_of_a_large_model_is_looked_at_up_to_a_budget_and_the_rest_is_said(reference, monkeypatch):
    candidate = opened("bitsandbytes")
    claims, untrue = claims_of(candidate, reference)
    whole = claims["group_error"].metric.estimate.n
    assert whole == sum(item.parameters for item in candidate.inspect().body) // 64
    assert "unread_weights" not in claims
    assert untrue == set()
    monkeypatch.setattr("pytest_llmopt.checks._quantized.modules.WEIGHTS", 2**18)
    claims, untrue = claims_of(candidate, reference)
    assert 0.2 < claims["unread_weights"].metric.estimate.point < 0.9
    assert claims["group_error"].metric.estimate.n < whole
    assert untrue == set()


@pytest.mark.parametrize(
    "words",
    [{"codes": "levels"}, {"levels": (0.0, 1.0)}, {"codes": "levels", "levels": (1.0, 0.0)}, {"flattened": True}],
)
def test_words_of_a_format_that_contradict_each_other_are_refused(words):
    with pytest.raises(OptionError):
        WeightFormat(4, **words)
