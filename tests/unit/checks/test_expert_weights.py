"""Experts that lie in one tensor are projections too: what leaves them unpacked, or one of them wrong, is found."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sides import open_side, running_of
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from pytest_llmopt import AccuracyLimits, Quantizer
from pytest_llmopt.checks._quantized.module_claims import module_claims
from pytest_llmopt.core.claims import Use
from pytest_llmopt.core.loading import LoadPolicy, locate
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.statistics.fake_quantizers import symmetric

SIZES = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@dataclass(frozen=True)
class EveryExpert(Quantizer):
    """8 bits by row, of linear layers and of experts, or of linear layers only."""

    experts: bool = True
    apart: bool = False
    """Every expert becomes linear layers of its own."""
    kept: tuple[str, ...] = ()
    accuracy_limits = AccuracyLimits(0.002, 0.97, 1.01, "a test")
    bytes_per_weight = 4.0

    @property
    def weight_format(self):
        return WeightFormat(8, kept=self.kept)

    def for_transformers(self, plan):
        plan.after_load.append(self.change)

    def change(self, model):
        head = model.get_output_embeddings()
        with torch.no_grad():
            for module in list(model.modules()):
                if isinstance(module, torch.nn.Linear) and module is not head:
                    module.weight.copy_(rounded(module.weight))
                if self.experts and type(module).__name__.endswith("Experts"):
                    for stack in (module.gate_up_proj, module.down_proj):
                        for matrix in stack:
                            matrix.copy_(rounded(matrix))
                    if self.apart:
                        take_apart(module)


def rounded(weight):
    return torch.from_numpy(symmetric(weight.detach().numpy(), 8))


def take_apart(experts):
    for number in range(len(experts.gate_up_proj)):
        gate, up = experts.gate_up_proj[number].chunk(2)
        parts = {"gate_proj": gate, "up_proj": up, "down_proj": experts.down_proj[number]}
        holder = torch.nn.Module()
        for name, weight in parts.items():
            linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            linear.weight.data = weight.detach().clone()
            holder.add_module(name, linear)
        experts.add_module(str(number), holder)
    del experts.gate_up_proj, experts.down_proj

    def forward(hidden, chosen, weights):
        output = torch.zeros_like(hidden)
        for number in range(4):
            part = experts.get_submodule(str(number))
            share = (weights * (chosen == number)).sum(-1, keepdim=True)
            middle = experts.act_fn(part.gate_proj(hidden)) * part.up_proj(hidden)
            output += part.down_proj(middle) * share
        return output

    experts.forward = forward


@pytest.fixture(scope="module", params=["mixtral", "qwen2_moe"])
def folder(request, tmp_path_factory):
    torch.manual_seed(0)
    model = (
        MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4))
        if request.param == "mixtral"
        else Qwen2MoeForCausalLM(
            Qwen2MoeConfig(**SIZES, num_experts=4, moe_intermediate_size=96, shared_expert_intermediate_size=128)
        )
    )
    return saved(model, tmp_path_factory.mktemp(request.param))


def saved(model, folder):
    model.save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(locate("tiny-llama")).save_pretrained(folder)
    return str(folder)


def opened(folder, options=None):
    applied = (Applied("quantization.test", options),) if options is not None else ()
    return open_side(Variant(folder, applied, dtype="float32", device="cpu"), LoadPolicy(threads=1))


def library(method, **options):
    return build(Registry("optimizations", "optimization").load(f"quantization.{method}"), method, (), options)


def judged(candidate, reference):
    use = Use(candidate.inspect(), reference.inspect(), (), 0, 0, np.ones(1), candidate.dtype)
    options = candidate.variant.optimizations[0].options
    claims = {claim.name: claim for claim in (*options.claims(use), *module_claims(options, candidate, reference, use))}
    untrue = {name for name, claim in claims.items() if claim.metric.status is not Status.PASS}
    return claims, untrue - {"unquantized_types"}  # these are rounded in place


@pytest.mark.parametrize("method", ["bitsandbytes", "torchao"])
def test_libraries_leave_experts_as_they_are_and_that_is_said(folder, method):
    pytest.importorskip(method)
    if method == "bitsandbytes" and "qwen2_moe" in folder:
        pytest.skip("its kernel for a CPU cannot multiply by a matrix of one output, as the gate of a shared expert")
    claims, untrue = judged(opened(folder, library(method)), opened(folder))
    assert {"packed", "packed_share", "sqnr_excess"} <= untrue
    share = claims["packed_share"]
    assert share.metric.estimate.point < 0.5
    assert "experts.gate_up_proj[" in share.otherwise
    assert f"{share.metric.estimate.point:.0%} of all weights are packed" in share.otherwise


def test_experts_that_are_rounded_too_are_as_they_should_be(folder):
    claims, untrue = judged(opened(folder, EveryExpert()), opened(folder))
    assert untrue == set()
    body = opened(folder).inspect().body
    assert sum(item.is_expert for item in body) == 2 * 4 * 2
    assert claims["packed_share"].metric.estimate.point > 0.95


def test_one_row_of_one_expert_that_is_scaled_is_named(folder):
    candidate = opened(folder, EveryExpert())
    with torch.no_grad():
        running_of(candidate).loaded.model.get_submodule("model.layers.1.mlp.experts").down_proj[3][5] *= 1.5
    claims, untrue = judged(candidate, opened(folder))
    assert "group_error" in untrue
    assert "model.layers.1.mlp.experts.down_proj[3], row 5, " in claims["group_error"].otherwise
    assert "1.50 times" in claims["group_error"].otherwise


def test_experts_that_are_taken_apart_are_compared_with_the_stack(folder):
    candidate, reference = opened(folder, EveryExpert(apart=True)), opened(folder)
    assert judged(candidate, reference)[1] == set()
    with torch.no_grad():
        running_of(candidate).loaded.model.get_submodule("model.layers.0.mlp.experts.2.up_proj").weight[7] = 0
    claims, untrue = judged(candidate, reference)
    assert "group_error" in untrue
    assert "experts.2.up_proj, row 7, " in claims["group_error"].otherwise


def test_experts_that_stay_on_purpose_are_compared_bit_by_bit(folder):
    candidate = opened(folder, EveryExpert(experts=False, kept=("*.experts.*",)))
    assert judged(candidate, opened(folder))[1] == set()
    with torch.no_grad():
        running_of(candidate).loaded.model.get_submodule("model.layers.1.mlp.experts").gate_up_proj[0] *= 1 + 2**-20
    assert judged(candidate, opened(folder))[1] == {"kept_modules_changed"}


def test_the_transposed_layers_of_gpt2_are_projections(tmp_path):
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=1024, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    folder = saved(GPT2LMHeadModel(config), tmp_path)
    candidate, reference = opened(folder, library("bitsandbytes")), opened(folder)
    claims, untrue = judged(candidate, reference)
    assert len(reference.inspect().body) == 2 * 4
    assert untrue == set()
    candidate = opened(folder, library("bitsandbytes"))
    running_of(candidate).loaded.model.get_submodule("transformer.h.1.mlp.c_fc").weight.quant_state.absmax[9] *= 2
    claims, untrue = judged(candidate, reference)
    assert "transformer.h.1.mlp.c_fc, row 9, columns 0 to 63" in claims["group_error"].otherwise
    assert "group_error" in untrue
