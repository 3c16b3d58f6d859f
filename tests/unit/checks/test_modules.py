"""Every projection of a quantized model is held to its format, from both sides, on the real thing."""

import dataclasses

import numpy as np
import pytest
import torch

from pytest_llmopt.checks._module_claims import module_claims
from pytest_llmopt.core.inspection import Use
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.engines._transformers import probing
from pytest_llmopt.runtime.loader import Loader

HONEST = {
    "nf4": ("bitsandbytes", {}),
    "fp4": ("bitsandbytes", {"quant_type": "fp4"}),
    "double": ("bitsandbytes", {"double_quant": True}),
    "llm_int8": ("bitsandbytes", {"bits": 8}),
    "int8wo": ("torchao", {}),
    "int8da": ("torchao", {"scheme": "int8_dynamic_activation"}),
}


@dataclasses.dataclass(frozen=True)
class Given:
    """A quantizer that promises what a test wants."""

    weight_format: WeightFormat


@pytest.fixture(scope="module")
def loader():
    own = Loader(Registry("engines", "engine"), LoadPolicy(threads=1))
    yield own
    own.close()


@pytest.fixture
def opened(loader):
    engines = []

    def open_(model, method=None, options=None, dtype="float32"):
        name = f"quantization.{method}"
        kind = Registry("optimizations", "optimization").load(name) if method else None
        applied = (Applied(name, build(kind, name, (), options)),) if kind else ()
        engines.append(loader.reopen(Variant(model, applied, dtype=dtype, device="cpu")))
        return engines[-1]

    yield open_
    for engine in engines:
        engine.close()


def judged(form, candidate, reference, seed=0):
    use = Use(candidate.inspect(), reference.inspect(), (), 0, 0, np.zeros(1), candidate.dtype)
    return {claim.name: claim for claim in module_claims(Given(form), candidate, reference, use, seed=seed)}


def untrue(claims):
    return {name for name, claim in claims.items() if claim.metric.status is not Status.PASS}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", list(HONEST))
def test_honest_libraries_are_as_they_say(opened, method, dtype):
    candidate = opened("tiny-qwen", *HONEST[method], dtype=dtype)
    form = candidate.variant.optimizations[0].options.weight_format
    claims = judged(form, candidate, opened("tiny-qwen", dtype=dtype))
    assert {"sqnr_shortfall", "sqnr_excess", "bias_error", "activation_error", "batch_dependence"} <= set(claims)
    assert untrue(claims) == set()


def test_the_identity_shows_weights_and_bias_exactly(opened):
    engine = opened("tiny-qwen")
    rows = np.arange(5, 20)
    stored = engine.stored("model.layers.0.self_attn.q_proj", rows)
    effective = engine.effective("model.layers.0.self_attn.q_proj", rows)
    assert effective.weight == pytest.approx(stored.weight, abs=1e-6)
    assert np.array_equal(effective.bias, stored.bias)
    assert stored.bias.any()


def test_packed_weights_are_not_taken_for_plain_ones(opened):
    assert opened("tiny-qwen", "torchao", {}).stored("model.layers.0.mlp.up_proj", np.arange(4)) is None


def test_a_plain_model_is_too_good_for_any_format(opened):
    claims = judged(WeightFormat(4, group_size=32, activations="int8"), opened("tiny-qwen"), opened("tiny-qwen"))
    assert untrue(claims) == {"sqnr_excess", "spare_levels", "activation_error"}
    assert "too good" in claims["sqnr_excess"].otherwise
    assert "and are not" in claims["activation_error"].otherwise


def test_activations_that_nobody_promised_to_round_are_found(opened):
    candidate = opened("tiny-llama", "torchao", {"scheme": "int8_dynamic_activation"})
    claims = judged(WeightFormat(8, computes_in="bfloat16"), candidate, opened("tiny-llama"))
    assert "activation_error" in untrue(claims)


def spoil(engine, name, change):
    module = engine._loaded.model.get_submodule(name)
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
    candidate._loaded.model.lm_head.weight.data *= 1 + 2**-20
    assert untrue(judged(form, candidate, reference)) == {"kept_modules_changed"}


def test_projections_that_the_format_keeps_are_compared_bit_by_bit(opened):
    form = WeightFormat(8, group_size=32, kept=("*",))
    claims = judged(form, opened("tiny-llama"), opened("tiny-llama"))
    assert list(claims) == ["kept_modules_changed"]
    assert untrue(claims) == set()


def test_a_large_model_is_sampled(opened, monkeypatch):
    monkeypatch.setattr("pytest_llmopt.checks._modules.WEIGHTS", 2**16)
    reads = []
    real = probing.effective
    monkeypatch.setattr(probing, "effective", lambda *args: reads.append(args[1:]) or real(*args))
    candidate = opened("tiny-llama", "bitsandbytes", {})
    spoil(candidate, "model.layers.3.mlp.down_proj", lambda output, _: torch.zeros_like(output))
    claims = judged(WeightFormat(4, "nf4", group_size=64), candidate, opened("tiny-llama"))
    assert {len(outputs) for _, outputs in reads} == {16}
    assert 14 <= len(reads) <= 21
    assert "sqnr_shortfall" in untrue(claims)
