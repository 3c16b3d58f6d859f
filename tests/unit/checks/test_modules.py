"""Every projection of a quantized model is held to its format, from both sides, on the real thing."""

import dataclasses

import numpy as np
import pytest
import torch
from sides import running_of

from pytest_llmopt.checks._quantized.module_claims import module_claims
from pytest_llmopt.checks._quantized.probe import Probe
from pytest_llmopt.core.claims import Use
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.engines._transformers import projections
from pytest_llmopt.runtime.loader import Loader

HONEST = {
    "nf4": ("bitsandbytes", {}),
    "fp4": ("bitsandbytes", {"quant_type": "fp4"}),
    "double": ("bitsandbytes", {"double_quant": True}),
    "llm_int8": ("bitsandbytes", {"bits": 8}),
    "int8wo": ("torchao", {}),
    "int8da": ("torchao", {"scheme": "int8_dynamic_activation"}),
    "int4": ("torchao", {"scheme": "int4_weight_only"}),
    "intx": ("torchao", {"scheme": "intx_weight_only", "bits": 3}),
    "intx_zero_points": ("torchao", {"scheme": "intx_weight_only", "bits": 2, "symmetric": False}),
    "int8da_intx": ("torchao", {"scheme": "int8_dynamic_activation_intx_weight"}),
    "float8": ("torchao", {"scheme": "float8_weight_only"}),
    "hqq": ("hqq", {"bits": 2}),
    "quanto_int8": ("quanto", {}),
    "quanto_int4": ("quanto", {"weights": "int4"}),
    "quanto_float8": ("quanto", {"weights": "float8"}),
    "q4_0": ("gguf", {"quant_type": "Q4_0"}),
    "q4_1": ("gguf", {"quant_type": "Q4_1"}),
    "q8_0": ("gguf", {"quant_type": "Q8_0"}),
    "w4a16": ("compressed_tensors", {"scheme": "W4A16"}),
    "w8a8": ("compressed_tensors", {"scheme": "W8A8"}),
    "fp8_dynamic": ("compressed_tensors", {"scheme": "FP8_DYNAMIC"}),
}
PLACE = "model.layers.1.mlp.gate_proj"


@dataclasses.dataclass(frozen=True)
class Given:
    """A quantizer that promises what a test wants."""

    weight_format: WeightFormat


@pytest.fixture(scope="module")
def loader(tmp_path_factory):
    own = Loader(Registry("engines", "engine"), LoadPolicy(threads=1, cache=tmp_path_factory.mktemp("cache")))
    yield own
    own.close()


@pytest.fixture
def opened(loader):
    engines = []

    def open_(model, method=None, options=None, dtype="float32"):
        name = f"quantization.{method}"
        kind = Registry("optimizations", "optimization").load(name) if method else None
        applied = (Applied(name, build(kind, name, (), options)),) if kind else ()
        for need in applied[0].options.requirements if applied else ():
            if (missing := need.missing()) is not None:
                pytest.skip(missing)
        variant = Variant(model, applied, dtype=dtype, device="cpu")
        engines.append(loader.side(variant, anew=True))
        return engines[-1]

    yield open_
    for engine in engines:
        engine.close()


def int8_products_are_exact():
    """Whether torch multiplies int8 matrices right here: without VNNI oneDNN adds pairs of products in 16 bits."""
    most = torch.full((2, 128), 127, dtype=torch.int8)
    return bool((torch._int_mm(most, most.T.contiguous()) == 127 * 127 * 128).all())


def judged(form, candidate, reference, seed=0):
    use = Use(candidate.inspect(), reference.inspect(), (), 0, 0, np.zeros(1), candidate.dtype)
    return {claim.name: claim for claim in module_claims(Given(form), candidate, reference, use, seed=seed)}


def untrue(claims):
    return {name for name, claim in claims.items() if claim.metric.status is not Status.PASS}


@pytest.mark.parametrize(
    ("method", "dtype"),
    [(method, "float32") for method in HONEST]
    + [(method, "bfloat16") for method in HONEST if HONEST[method][0] in {"bitsandbytes", "torchao"}],
)
def test_honest_libraries_are_as_they_say(opened, method, dtype):
    if method == "int8da" and not int8_products_are_exact():
        pytest.skip("torch's products of int8 matrices are saturated here, as where ONEDNN_MAX_CPU_ISA forbids VNNI")
    candidate = opened("tiny-qwen", *HONEST[method], dtype=dtype)
    form = candidate.variant.optimizations[0].options.weight_format
    claims = judged(form, candidate, opened("tiny-qwen", dtype=dtype))
    assert {"sqnr_shortfall", "sqnr_excess", "bias_error", "activation_error", "batch_dependence"} <= set(claims)
    assert untrue(claims) == set()


def left_as_it_was(model, reference):
    model.set_submodule(PLACE, reference.get_submodule(PLACE))


def other_zero_points(model, _reference):
    """Every group has the zero point of its neighbor."""
    meta = model.get_submodule(PLACE).meta
    meta["zero"] = meta["zero"].roll(1, 0)


def one_step_up(model, _reference):
    meta = model.get_submodule(PLACE).meta
    meta["zero"] = meta["zero"] + 1  # in place is not possible with what hqq made in inference mode


def scaled(model, _reference):
    weight = model.get_submodule(PLACE).weight
    scale = getattr(weight, "_scale", None)
    (scale if scale is not None else weight.scale).mul_(1.3)


def unpacked_scaled(model, _reference):
    model.get_submodule(PLACE).weight.mul_(1.3)


def groups_swapped(model, _reference):
    weight = model.get_submodule(PLACE).weight
    weight[:, :64] = weight[:, :64].roll(32, 1)


def off_by_a_code(model, _reference):
    weight = model.get_submodule(PLACE).weight
    steps = weight.unflatten(1, (-1, 32))
    weight += ((steps.amax(-1, keepdim=True) - steps.amin(-1, keepdim=True)) / 15).expand_as(steps).flatten(1)


@pytest.mark.parametrize(
    ("method", "plant", "claim", "words"),
    [
        ("hqq", one_step_up, "sqnr_shortfall", "zero points"),
        ("hqq", other_zero_points, "sqnr_shortfall", "look at"),
        ("hqq", left_as_it_was, "sqnr_excess", "too good"),
        ("quanto_int8", scaled, "sqnr_shortfall", "1.30 times"),
        ("quanto_int4", scaled, "sqnr_shortfall", "look at"),
        ("quanto_float8", scaled, "sqnr_shortfall", "1.30 times"),
        ("quanto_int4", left_as_it_was, "sqnr_excess", "too good"),
        ("intx", scaled, "sqnr_shortfall", "look at its scales"),
        ("int4", left_as_it_was, "excess_levels", "distinct weights"),
        ("float8", scaled, "sqnr_shortfall", "1.30 times"),
        ("q4_0", groups_swapped, "sqnr_shortfall", "look at"),
        ("q4_1", off_by_a_code, "sqnr_shortfall", "zero points"),
        ("q8_0", left_as_it_was, "sqnr_excess", "too good"),
        ("w4a16", unpacked_scaled, "sqnr_shortfall", "1.30 times"),
        ("w8a8", left_as_it_was, "activation_error", "and are not"),
        ("fp8_dynamic", left_as_it_was, "sqnr_excess", "too good"),
    ],
)
def test_a_fault_of_one_projection_is_found_in_every_format(opened, method, plant, claim, words):
    candidate, reference = opened("tiny-llama", *HONEST[method]), opened("tiny-llama")
    candidate.inspect()  # what is packed is unpacked in the first forward pass
    with torch.no_grad():
        plant(running_of(candidate).loaded.model, running_of(reference).loaded.model)
    claims = judged(candidate.variant.optimizations[0].options.weight_format, candidate, reference)
    assert claim in untrue(claims)
    assert PLACE in claims[claim].otherwise
    assert words in claims[claim].otherwise


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("hqq", {"axis": 0}),
        ("quanto", {"activations": "int8"}),
        ("compressed_tensors", {"scheme": "FP8"}),
        ("compressed_tensors", {"scheme": "FP8_BLOCK"}),
        ("gguf", {"quant_type": "MXFP4"}),
        ("torchao", {"scheme": "float8_dynamic_activation"}),
        ("configured", {"checkpoint": "made-by-others"}),
    ],
)
def test_what_no_format_describes_states_none(method, options):
    name = f"quantization.{method}"
    assert build(Registry("optimizations", "optimization").load(name), name, (), options).weight_format is None


@pytest.mark.parametrize(
    ("group_size", "inputs", "expected"),
    [(32, 128, 32), ("channel", 200, 200), ("tensor", 200, 200), ((128, 96, 32), 384, 128), ((128, 96, 32), 160, 32)],
)
def test_a_projection_has_the_first_group_that_divides_its_inputs(group_size, inputs, expected):
    assert WeightFormat(4, group_size=group_size).group_of(inputs) == expected


def test_none_of_the_groups_divides():
    assert WeightFormat(4, group_size=(128, 32)).group_of(200) == 200


def test_a_head_that_the_loader_turned_to_16_bits_is_still_the_same(opened):
    form = WeightFormat(8, group_size=32, kept=("*",))
    candidate, reference = opened("tiny-llama", dtype="bfloat16"), opened("tiny-llama")
    assert untrue(judged(form, candidate, reference)) == set()
    running_of(candidate).loaded.model.lm_head.weight.data *= 1 + 2**-7
    assert untrue(judged(form, candidate, reference)) == {"kept_modules_changed"}


def test_the_identity_shows_weights_and_bias_exactly(opened):
    engine = opened("tiny-qwen")
    rows = np.arange(5, 20)
    stored = Probe(engine).stored("model.layers.0.self_attn.q_proj", rows)
    effective = Probe(engine).effective("model.layers.0.self_attn.q_proj", rows)
    assert effective.weight == pytest.approx(stored.weight, abs=1e-6)
    assert np.array_equal(effective.bias, stored.bias)
    assert stored.bias.any()


def test_packed_weights_are_not_taken_for_plain_ones(opened):
    assert Probe(opened("tiny-qwen", "torchao", {})).stored("model.layers.0.mlp.up_proj", np.arange(4)) is None


def test_a_plain_model_is_too_good_for_any_format(opened):
    claims = judged(WeightFormat(4, group_size=32, activations="int8"), opened("tiny-qwen"), opened("tiny-qwen"))
    assert untrue(claims) == {"sqnr_excess", "excess_levels", "activation_error"}
    assert "too good" in claims["sqnr_excess"].otherwise
    assert "and are not" in claims["activation_error"].otherwise


def test_activations_that_nobody_promised_to_round_are_found(opened):
    candidate = opened("tiny-llama", "torchao", {"scheme": "int8_dynamic_activation"})
    claims = judged(WeightFormat(8, computes_in="bfloat16"), candidate, opened("tiny-llama"))
    assert "activation_error" in untrue(claims)


def spoil(engine, name, change):
    module = running_of(engine).loaded.model.get_submodule(name)
    given = module.forward
    module.forward = lambda hidden: change(given(hidden), hidden)


@pytest.mark.parametrize(
    ("change", "claim", "words"),
    [
        (lambda output, _: output * 1.3, "sqnr_shortfall", "look at its scales"),
        (lambda output, hidden: output + 0.1 * hidden.sum(-1, keepdim=True), "sqnr_shortfall", "zero points"),
        (lambda output, _: output.roll(1, -1), "sqnr_shortfall", "packing"),
        (lambda output, _: output * float("nan"), "sqnr_shortfall", "not finite"),
        (lambda output, _: output + 0.02, "bias_error", "the reference has none"),
        (lambda output, _: output + output.abs().amax(0, keepdim=True) / 50, "batch_dependence", "over the batch"),
    ],
)
def test_one_wrong_projection_is_named_with_what_its_error_looks_like(opened, change, claim, words):
    candidate = opened("tiny-llama", "bitsandbytes", {})
    spoil(candidate, "model.layers.2.mlp.up_proj", change)
    claims = judged(WeightFormat(4, "nf4", group_size=64), candidate, opened("tiny-llama"))
    assert claim in untrue(claims)
    assert "model.layers.2.mlp.up_proj" in claims[claim].otherwise
    assert words in claims[claim].otherwise


def test_a_head_that_differs_in_one_bit_is_found(opened):
    candidate, reference = opened("tiny-qwen", "bitsandbytes", {}), opened("tiny-qwen")
    form = WeightFormat(4, "nf4", group_size=64)
    assert untrue(judged(form, candidate, reference)) == set()
    running_of(candidate).loaded.model.lm_head.weight.data *= 1 + 2**-20
    assert untrue(judged(form, candidate, reference)) == {"kept_modules_changed"}


def test_projections_that_the_format_keeps_are_compared_bit_by_bit(opened):
    form = WeightFormat(8, group_size=32, kept=("*",))
    claims = judged(form, opened("tiny-llama"), opened("tiny-llama"))
    assert list(claims) == ["kept_modules_changed"]
    assert untrue(claims) == set()


def test_a_large_model_is_sampled(opened, monkeypatch):
    monkeypatch.setattr("pytest_llmopt.checks._quantized.modules.WEIGHTS", 2**16)
    reads = []
    real = projections.effective
    monkeypatch.setattr(projections, "effective", lambda *args: reads.append(args[1:]) or real(*args))
    candidate = opened("tiny-llama", "bitsandbytes", {})
    spoil(candidate, "model.layers.3.mlp.down_proj", lambda output, _: torch.zeros_like(output))
    claims = judged(WeightFormat(4, "nf4", group_size=64), candidate, opened("tiny-llama"))
    assert len(reads) == 28
    assert max(len(outputs) for _, outputs in reads) < 64
    assert "sqnr_shortfall" in untrue(claims)
