"""What accuracy is judged by: each path and each prompt by itself, on texts that differ, deep enough, and told."""

from contextlib import contextmanager

import pytest
from sides import open_side, running_of

from pytest_llmopt.checks.accurate import accurate
from pytest_llmopt.checks.lossless import lossless
from pytest_llmopt.checks.optimized import optimized
from pytest_llmopt.core.errors import UnsoundReferenceError
from pytest_llmopt.core.loading import LoadPolicy, fixtures_folder
from pytest_llmopt.core.prompt import Prompt
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status

pytestmark = pytest.mark.any_processor
MODEL = "tiny-llama"
LIMITS = {"kl_divergence": 0.05, "top1_agreement": 0.5, "perplexity_ratio": 1.5}
FEW = {"num_prompts": 8, "max_prompts": 8, "max_new_tokens": 12}


def opened(model=MODEL, **optimizations):
    registry = Registry("optimizations", "optimization")
    applied = tuple(
        Applied(f"decoding.{name}", registry.load(f"decoding.{name}")(**options))
        for name, options in optimizations.items()
    )
    return open_side(Variant(model, applied), LoadPolicy())


@pytest.fixture(scope="module")
def reference():
    return opened()


@pytest.fixture(scope="module")
def prompts():
    return PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl")


def spoiled(where):
    """A candidate whose first layer is wrong where a function of the hidden states `[rows, tokens, width]` says so."""
    engine = opened()
    layer = running_of(engine).loaded.model.model.layers[0].mlp
    own = layer.forward
    layer.forward = lambda hidden: own(hidden) * (8.0 if where(hidden) else 1.0)
    return engine


def test_what_breaks_at_length_is_seen_in_the_longest_prompt(reference, prompts):
    short = [prompt for prompt in prompts if len(prompt.encode(reference)) < 100][:20]
    long = max(prompts, key=lambda prompt: len(prompt.encode(reference)))
    given = PromptSet((*short, long))
    found = accurate(spoiled(lambda hidden: hidden.shape[1] > 128), reference, given, **LIMITS, **FEW)
    assert found.metrics["kl_prefill"].estimate.high < LIMITS["kl_divergence"], "its mean is of the others"
    assert found.metrics["kl_worst_prompt"].status is found.status is Status.FAIL
    assert any(line.startswith(f"worst prompt: {long.id}") for line in found.diagnosis)
    assert found.looked_at["deepest position"] > 500
    assert accurate(reference, reference, given, **LIMITS, **FEW).status is Status.PASS


def test_a_decode_path_that_is_wrong_fails_although_the_text_is_scored_right(reference, prompts):
    found = accurate(spoiled(lambda hidden: hidden.shape[1] == 1), reference, prompts, **LIMITS, **FEW)
    assert found.metrics["kl_decode"].status is Status.FAIL
    assert found.metrics["kl_prefill"].status is Status.PASS


def test_copies_of_a_prompt_are_one_text(reference, prompts):
    copies = PromptSet(tuple(Prompt(f"{place}", text=prompts[3].text) for place in range(12)))
    settings = {"num_prompts": 12, "max_new_tokens": 8}
    found = accurate(spoiled(lambda _hidden: False), reference, copies, **LIMITS, **settings)
    assert found.status is Status.INCONCLUSIVE
    assert found.looked_at["different texts"] == 1
    assert any("12 prompts have 1 different texts" in line for line in found.diagnosis)


def test_too_few_decoded_positions_decide_nothing(reference, prompts):
    found = accurate(reference, reference, prompts.take(8), **LIMITS, max_new_tokens=4)
    assert found.metrics["decoded_positions"].status is found.status is Status.INCONCLUSIVE
    assert "only 32 positions were decoded, 64 are the least" in found.diagnosis[0]


def test_how_many_of_the_prompts_were_used_is_told(reference):
    many = PromptSet(tuple(Prompt(f"{place}", token_ids=(5 + place, 7, 9 + place)) for place in range(40)))
    some = accurate(reference, reference, many, **LIMITS, num_prompts=4, max_prompts=8, max_new_tokens=2)
    assert some.evidence.endswith("9 of 40 prompts")
    every = accurate(reference, reference, many, **LIMITS, num_prompts=40, max_prompts=8, max_new_tokens=2)
    assert every.evidence.endswith(", 40 prompts")
    assert every.looked_at["different texts"] == 40


def test_a_reference_that_is_not_finite_is_named_as_such(reference, prompts):
    broken = opened()
    running_of(broken).loaded.model.model.layers[0].mlp.down_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(UnsoundReferenceError, match=r"reference itself is not finite: .* at position \d+ of prompt "):
        accurate(reference, broken, prompts, **LIMITS, **FEW)
    with pytest.raises(UnsoundReferenceError, match=r"reference itself is not finite: .* at position \d+ of prompt "):
        lossless(reference, broken, prompts, max_tokens=16)


@pytest.mark.parametrize(("factor", "status"), [(1.0, Status.PASS), (1.1, Status.FAIL)])
def test_a_cache_that_reads_its_values_too_large_is_not_in_effect(reference, prompts, monkeypatch, factor, status):
    from transformers.cache_utils import Fp8QuantizedLayer as Layer

    own, count = Layer._dequantize, iter(range(10**6))
    # Keys first, values second.
    monkeypatch.setattr(Layer, "_dequantize", lambda *args: own(*args) * (factor if next(count) % 2 else 1.0))
    found = optimized(opened(quantized_cache={"backend": "fp8"}), reference, prompts)
    assert found.metrics["quantized_cache.cache_gain"].status is found.status is status


@contextmanager
def no_more_than_k():
    """Top-k that drops tokens which equal the k-th, in the order of a sort."""
    from transformers.generation.logits_process import TopKLogitsWarper as Warper

    own = Warper.__call__

    def cut(self, _ids, scores):
        kept = scores.topk(self.top_k)
        return scores.new_full(scores.shape, -float("inf")).scatter(1, kept.indices, kept.values)

    Warper.__call__ = cut
    try:
        yield
    finally:
        Warper.__call__ = own


@pytest.mark.parametrize(("wrong", "status"), [(False, Status.PASS), (True, Status.FAIL)])
def test_tied_tokens_at_the_edge_of_top_k_come_as_often_as_they_should(prompts, wrong, status):
    sides = candidate, reference = opened(), opened()
    for side in sides:  # coarse logits tie
        head = running_of(side).loaded.model.get_output_embeddings()
        head.register_forward_hook(lambda _module, _args, logits: (logits / 0.5).round() * 0.5)
    if wrong:
        own = running_of(candidate).loaded.model.generate

        def generate(*args, **kwargs):
            with no_more_than_k():
                return own(*args, **kwargs)

        running_of(candidate).loaded.model.generate = generate
    settings = {"temperature": 1.3, "top_k": 5, "max_tokens": 600, "max_new_tokens": 32}
    found = lossless(candidate, reference, prompts, **settings)
    assert found.status is status
    assert found.metrics["edge_positions"].estimate.point > 20
    assert (found.metrics["edge_evidence"].estimate.point > 9.2) is wrong
    assert any("filter edges" in line for line in found.diagnosis) is wrong
