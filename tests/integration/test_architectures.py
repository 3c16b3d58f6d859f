"""The Transformers engine runs every kind of decoder: a tiny random model of each is scored, forced and judged."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sides import open_side, running_of

sys.path.insert(0, str(Path(__file__).parent.parent))
from architectures import KINDS, build

from pytest_llmopt.checks.equivalent import equivalent
from pytest_llmopt.checks.invariant import invariant
from pytest_llmopt.core.errors import RequestError, RequirementMissingError
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.engines._transformers import scoring

ROUNDING = 1e-4
"""Nats by which float32 arithmetic in another order moves a log-probability of these models."""
PROMPTS = ["def main(argv):\n    import os\n    return", "one, two, three", "if"]
LACKS = {
    "state space": {"prefill_chunk"},
    "hybrid": {"prefill_chunk"},
    "decoder of an encoder-decoder": {"left_padding"},
}
"""What the library itself does not do for these; every other kind does everything."""
SHORT = ("repeat", "batch_mates", "prefill_chunk", "decoded_prefix", "unused_cache", "later_token")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Engines by kind and optimizations, each model built once."""
    engines = {}

    def make(kind, *applied):
        folder = tmp_path_factory.getbasetemp() / f"model-{kind.replace(' ', '-')}"
        if not folder.exists():
            build(kind, folder)
        key = (kind, applied)
        if key not in engines:
            kinds = Registry("optimizations", "optimization")
            given = tuple(Applied(name, kinds.load(name)(**dict(options))) for name, options in applied)
            engines[key] = open_side(Variant(str(folder), given), LoadPolicy())
        return engines[key]

    return make


def some(engine):
    """Continuations of a real text and of a short one, which share a batch."""
    tokens = engine.encode("def longest(names, limit=10):\n    for name in names:\n        return name\n")
    return [Continuation(tokens[:12], tokens[12:]), Continuation(tokens[:3], tokens[3:9])]


def furthest(scored, given):
    return max(float(np.abs(a.token_logprobs - b.token_logprobs).max()) for a, b in zip(scored, given, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_model_s_own_forward_that_scores(opened, kind):
    import torch

    engine = opened(kind)
    (long, _), (scored, _) = some(engine), engine.score(some(engine))
    ids = torch.tensor([long.prompt_ids + long.token_ids])
    with torch.no_grad():
        own = running_of(engine).loaded.model(ids, use_cache=False).logits[0].log_softmax(-1)
    start = len(long.prompt_ids)
    expected = own[torch.arange(start - 1, len(long) - 1), ids[0, start:]].numpy()
    assert np.abs(expected - scored.token_logprobs).max() < ROUNDING
    assert scored.top_logprobs.std() > 1, "a flat model would hide what goes wrong"


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_in_pieces_gives_the_same(opened, kind, monkeypatch):
    engine = opened(kind)
    whole = engine.score(some(engine))
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", 5 * engine.vocab_size)
    in_pieces = scoring.Scorer(running_of(engine).loaded)
    assert furthest(whole, in_pieces.score(some(engine), 1024)) < ROUNDING
    assert in_pieces._body is not None, "nothing was run in pieces"
    in_parts = scoring.Scorer(running_of(engine).loaded)
    in_parts._tried = True
    assert furthest(whole, in_parts.score(some(engine), 1024)) < ROUNDING


@pytest.mark.parametrize("kind", KINDS)
def test_forced_and_generated_tokens_are_thought_of_as_the_forward_does(opened, kind):
    engine = opened(kind)
    assert furthest(engine.score(some(engine)), [item.logprobs for item in engine.force(some(engine))]) < ROUNDING
    generated = engine.generate([item.prompt_ids for item in some(engine)], SamplingParams(max_new_tokens=6))
    scored = engine.score([item.continuation for item in generated])
    assert furthest(scored, [item.logprobs for item in generated]) < ROUNDING
    assert set(engine.lacks) == LACKS.get(kind, set())


@pytest.mark.parametrize("kind", KINDS)
def test_invariant_ends_in_a_verdict_and_names_what_was_left_out(opened, kind):
    engine = opened(kind)
    verdict = invariant(engine, PROMPTS, reference=engine, relations=SHORT, num_prompts=2, max_new_tokens=4)
    assert verdict.status is Status.PASS, verdict.diagnosis
    left = {"prefill_chunk": "prefill_chunk", "left_padding": "batch_mates"}
    for ability in LACKS.get(kind, ()):
        assert f"worst_kl.{left[ability]}" not in verdict.metrics
        assert any(line.startswith(f"not applicable: {left[ability]}: ") for line in verdict.diagnosis)
    tried = {name.partition(".")[2] for name in verdict.metrics if name.startswith("worst_kl.")}
    assert tried == set(SHORT) - {left[ability] for ability in LACKS.get(kind, ())} - {"unused_cache"}


@pytest.mark.parametrize("kind", ["state space", "hybrid", "decoder of an encoder-decoder", "chunked attention"])
def test_equivalence_ends_in_a_verdict(opened, kind):
    engine = opened(kind)
    verdict = equivalent(engine, engine, PROMPTS, max_new_tokens=8, forced_tokens=16)
    assert verdict.status is Status.PASS, verdict.diagnosis


def test_a_prefill_in_pieces_is_refused_in_the_library_s_words(opened):
    engine = opened("state space")
    with pytest.raises(RequestError, match="Cannot use prefill chunking without a cache"):
        engine.force(some(engine), prefill_chunk=4)


def test_speculation_on_a_state_that_cannot_go_back_is_a_missing_requirement(opened):
    lookup = ("decoding.prompt_lookup", ())
    with pytest.raises(RequirementMissingError, match="not supported with stateful models, such as JambaForCausalLM"):
        opened("hybrid", lookup)
    assert opened("convolutions", lookup).generate([(5, 6, 7, 5, 6)], SamplingParams(max_new_tokens=4))


def test_a_state_of_a_fixed_size_is_neither_a_growing_cache_nor_a_static_one(opened):
    for kind, total, states in (("state space", 2, 2), ("hybrid", 2, 1), ("untied head", 2, 0)):
        cache = opened(kind).inspect().cache
        assert (sum(cache.layers.values()), cache.state_layers, cache.fixed_layers) == (total, states, 0), kind
    static = ("decoding.static_cache", (("max_cache_len", 96),))
    cache = opened("hybrid", static).inspect().cache
    assert (cache.state_layers, cache.fixed_layers, cache.length) == (1, 1, 96)
    windowed = opened("chunked attention", static).inspect().cache
    assert (windowed.window, windowed.length) == (64, 64)
    with pytest.raises(RequirementMissingError, match="no keys and values for a static cache to hold"):
        opened("state space", static)


def test_what_an_optimization_broke_is_not_excused_as_a_lack_of_the_architecture(opened):
    """The same lack on both sides is left out; on the candidate alone it fails, and so does the relation's claim."""
    lacking, able = opened("decoder of an encoder-decoder"), opened("offset positions")
    assert invariant(lacking, PROMPTS, reference=lacking, relations=("batch_mates", "repeat")).status is Status.PASS
    verdict = invariant(lacking, PROMPTS, reference=able, relations=("batch_mates", "repeat"))
    assert verdict.status is Status.FAIL
    assert verdict.metrics["lost_abilities"].status is Status.FAIL
    assert "it cannot do what the reference can: left_padding: BartForCausalLM" in verdict.diagnosis[0]
