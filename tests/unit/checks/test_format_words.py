"""Honest quantizers of other makers that the words of a format describe: no false alarm, and their faults are found."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sides import open_side, running_of
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pytest_llmopt import AccuracyLimits, Quantizer
from pytest_llmopt.checks._quantized.module_claims import module_claims
from pytest_llmopt.checks.invariant import invariant
from pytest_llmopt.core.claims import Use
from pytest_llmopt.core.loading import LoadPolicy, locate
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.core.weight_format import WeightFormat

COMPANY = ("batch_mates", "padding", "prefill_chunk", "later_token", "decoded_prefix", "edited_prompt", "prompt_length")
BOOK = (-9.0, -6.5, -4.5, -3.0, -2.0, -1.25, -0.75, -0.25, 0.0, 0.5, 1.0, 1.75, 2.75, 4.0, 6.0, 9.0)


class Layer(torch.nn.Module):
    """Weights as they are given, and int8 activations by one scale for all that it is called with, if asked."""

    def __init__(self, linear, weight, *, rounds):
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self.register_buffer("weight", weight)
        self.rounds = rounds

    def forward(self, hidden):
        if self.rounds:
            scale = hidden.abs().amax().clamp(min=1e-8) / 127
            hidden = (hidden / scale).round().clamp(-128, 127) * scale
        return torch.nn.functional.linear(hidden, self.weight, self.bias)


@dataclass(frozen=True)
class Replaced(Quantizer):
    """Every linear layer but the head becomes one of ours."""

    accuracy_limits = AccuracyLimits(0.1, 0.8, 1.1, "a test")
    bytes_per_weight = 4.0
    rounds = False

    def for_transformers(self, plan):
        plan.after_load.append(self.change)

    def change(self, model):
        for name, module in list(model.named_modules()):
            if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings():
                model.set_submodule(name, Layer(module, self.rounded(module.weight.detach()), rounds=self.rounds))


@dataclass(frozen=True)
class PerTensor(Replaced):
    """int8 by row, and activations by one scale for the batch."""

    told: bool = True
    rounds = True

    @property
    def weight_format(self):
        return WeightFormat(8, activations="int8", activation_scales="tensor" if self.told else "token")

    def rounded(self, weight):
        scale = weight.abs().amax(1, keepdim=True) / 127
        return (weight / scale).round() * scale


@dataclass(frozen=True)
class CodeBook(Replaced):
    """Sixteen levels of our own for groups of 32."""

    told: bool = True

    @property
    def weight_format(self):
        return WeightFormat(4, "levels", 32, levels=BOOK) if self.told else WeightFormat(4, "nf4", 32)

    def rounded(self, weight):
        levels = torch.tensor(BOOK) / 9
        groups = weight.unflatten(1, (-1, 32))
        scale = groups.abs().amax(-1, keepdim=True)
        nearest = (groups[..., None] / scale[..., None] - levels).abs().argmin(-1)
        return (levels[nearest] * scale).flatten(1)


def opened(model="tiny-qwen", options=None):
    applied = (Applied("quantization.test", options),) if options is not None else ()
    return open_side(Variant(str(model), applied, dtype="float32", device="cpu"), LoadPolicy(threads=1))


@pytest.fixture(scope="module")
def reference():
    return opened()


def judged(form, candidate, reference):
    use = Use(candidate.inspect(), reference.inspect(), (), 0, 0, np.ones(1), candidate.dtype)
    stated = type("Given", (), {"weight_format": form})()
    claims = {claim.name: claim for claim in module_claims(stated, candidate, reference, use)}
    return claims, {name for name, claim in claims.items() if claim.metric.status is not Status.PASS}


def test_one_scale_of_activations_for_a_batch_is_no_fault_where_it_is_promised(reference):
    options = PerTensor()
    candidate = opened(options=options)
    claims, untrue = judged(options.weight_format, candidate, reference)
    assert untrue == set()
    assert "batch_dependence" not in claims
    assert 0.25 < claims["activation_error"].metric.estimate.point < 4
    own = PerTensor(told=False).weight_format
    assert "batch_dependence" in judged(own, candidate, reference)[1]


def test_relations_about_company_say_that_they_do_not_apply_to_it():
    prompts = ["def longest(names, limit=10):\n    return [name for name in names if len(name) > limit]\n"] * 3
    told = invariant(opened(options=PerTensor()), prompts, relations=COMPANY)
    assert told.status is not Status.FAIL
    assert "by design" in " ".join((told.evidence, *told.diagnosis))
    silent = invariant(opened(options=PerTensor(told=False)), prompts, relations=("batch_mates",))
    assert silent.status is Status.FAIL


def test_activations_that_are_not_rounded_are_found_with_one_scale_too(reference):
    plain = opened(options=CodeBook())
    form = WeightFormat(4, "levels", 32, levels=BOOK, activations="int8", activation_scales="tensor")
    assert "activation_error" in judged(form, plain, reference)[1]


def test_a_code_book_of_ones_own_is_held_to_its_levels(reference):
    options = CodeBook()
    candidate = opened(options=options)
    assert judged(options.weight_format, candidate, reference)[1] == set()
    assert judged(CodeBook(told=False).weight_format, candidate, reference)[1] != set()
    running_of(candidate).loaded.model.get_submodule("model.layers.1.mlp.up_proj").weight[3, 32:64] *= 1.5
    claims, untrue = judged(options.weight_format, candidate, reference)
    assert {"group_error", "group_gain", "weight_error"} <= untrue
    assert "model.layers.1.mlp.up_proj, row 3, columns 32 to 63" in claims["group_gain"].otherwise


@pytest.fixture(scope="module")
def odd_columns(tmp_path_factory):
    """A model with 352 columns in every projection: five and a half blocks of 64."""
    folder = tmp_path_factory.mktemp("odd")
    torch.manual_seed(0)
    sizes = {"hidden_size": 352, "intermediate_size": 352, "num_hidden_layers": 1, "num_attention_heads": 11}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=1024, **sizes))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):  # rows of unlike size, so that a block knows whose it is
                module.weight.mul_(torch.logspace(-1, 1, len(module.weight))[:, None])
    model.save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(locate("tiny-llama")).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Blocks(Replaced):
    """nf4 by bitsandbytes in blocks of 64 that run over the flattened matrix, unpacked as its kernels for GPUs do.

    Its kernels for CPUs cannot unpack blocks that cross rows: that for AVX-512 refuses them, the other one is wrong.
    """

    double_quant: bool = False

    @property
    def weight_format(self):
        return WeightFormat(4, "nf4", 64, flattened=True, nested_scales=self.double_quant)

    def rounded(self, weight):
        from bitsandbytes import functional

        packed, state = functional.quantize_4bit(
            weight, blocksize=64, quant_type="nf4", compress_statistics=self.double_quant
        )
        scales = state.absmax
        if self.double_quant:
            scales = functional.dequantize_blockwise(scales, state.state2) + state.offset
        codes = torch.stack((packed >> 4, packed & 15), dim=1).flatten()[: weight.numel()].long()
        return (state.code[codes] * scales.repeat_interleave(64)[: weight.numel()]).view_as(weight)


@pytest.mark.parametrize("double_quant", [False, True])
def test_blocks_that_cross_rows_are_judged_as_they_run(odd_columns, double_quant):
    pytest.importorskip("bitsandbytes")
    options = Blocks(double_quant)
    candidate, reference = opened(odd_columns, options), opened(odd_columns)
    assert judged(options.weight_format, candidate, reference)[1] == set()
    assert "excess_levels" in judged(WeightFormat(4, "nf4", 64), candidate, reference)[1]
    weight = running_of(candidate).loaded.model.get_submodule("model.layers.0.mlp.down_proj").weight
    weight.view(-1)[320:384] *= 1.5  # the last columns of the first row and the first of the next
    claims, untrue = judged(options.weight_format, candidate, reference)
    assert {"group_error", "group_gain"} <= untrue
    assert "row 0, column 320 to row 1, column 31" in claims["group_error"].otherwise
    if not double_quant:  # what was rounded twice is no more than near 1.5
        assert "1.50 times" in claims["group_gain"].otherwise
