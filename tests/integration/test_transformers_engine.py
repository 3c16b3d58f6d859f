"""The Transformers engine answers what it is asked: whole texts, its own forward, the arguments of optimizations."""

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from planted import Planted
from sides import open_side

from pytest_llmopt.checks.equivalent import equivalent
from pytest_llmopt.checks.invariant import invariant
from pytest_llmopt.core.errors import OptionError, UnsoundReferenceError
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status

ROUNDING = 1e-4
"""Nats."""
PROMPTS = [f"def {name}(items):\n    for item in items:\n        " for name in ("total", "longest", "first", "names")]


@dataclass(frozen=True)
class Arguments(Planted):
    """Sets arguments of `generate`."""

    given: dict = field(default_factory=dict, hash=False)

    def for_transformers(self, plan):
        for name, value in self.given.items():
            plan.set("generate", name, value, by="arguments")


@dataclass(frozen=True)
class Noise(Planted):
    """Every forward pass draws from one of the global generators."""

    source: str = "dropout"

    def change(self, model):
        import torch

        if self.source == "dropout":
            # As an adapter whose dropout was left on.
            model.model.layers[1].mlp.register_forward_hook(
                lambda _module, _args, output: torch.nn.functional.dropout(output, 0.05, training=True)
            )
            return
        draw = {"random": random.random, "numpy": np.random.random}[self.source]
        model.model.layers[1].mlp.register_forward_hook(lambda _module, _args, output: output * (1 + 0.1 * draw()))


@dataclass(frozen=True)
class Around(Planted):
    """The forward of the model does something before and behind its base model."""

    def change(self, model):
        forward = type(model).forward

        def around(input_ids=None, **options):
            output = forward(model, input_ids=(input_ids + 1) % model.config.vocab_size, **options)
            output["logits"] = output.logits * 0.5
            return output

        model.forward = around


@dataclass(frozen=True)
class ForgetsTurns(Planted):
    """A decode step that is fed the end of a turn changes what it adds to the cache."""

    def change(self, model):
        (end,) = [model.generation_config.eos_token_id]
        fed = []
        model.register_forward_pre_hook(
            lambda _model, _args, given: fed.append(given.get("input_ids")), with_kwargs=True
        )

        def forget(_module, _args, output):
            ids = fed[-1]
            return output * 0 if ids is not None and ids.shape[1] == 1 and bool((ids == end).any()) else output

        model.model.layers[0].self_attn.v_proj.register_forward_hook(forget)


@dataclass(frozen=True)
class NotFinite(Planted):
    """One weight is NaN."""

    def change(self, model):
        model.model.layers[0].mlp.down_proj.weight.data[0, 0] = float("nan")


def opened(*optimizations, model="tiny-llama"):
    kinds = Registry("optimizations", "optimization")
    applied = tuple(
        Applied(f"planted.{type(item).__name__.lower()}", item)
        if isinstance(item, Planted)
        else Applied(item[0], kinds.load(item[0])(**item[1]))
        for item in optimizations
    )
    return open_side(Variant(model, applied), LoadPolicy())


@pytest.fixture(scope="module")
def plain():
    return opened()


def chat(engine):
    """A text with the end of the sequence inside, which is also what follows first."""
    (end, *_) = engine.eos_token_ids
    words = engine.encode("How long is the list? It has four items. And then? def longest(names): return names")
    tokens = (*words[:10], end, *words[10:14], end, end, *words[14:])
    return [Continuation(tokens[:10], tokens[10:]), Continuation(words[:3], (*words[3:9], end))]


@pytest.mark.parametrize(
    "optimization",
    [
        (),
        (("decoding.assisted", {}),),
        (("decoding.prompt_lookup", {}),),
        (("decoding.static_cache", {}),),
        (("decoding.static_cache", {"max_cache_len": 96, "reuse": True}),),
        (("decoding.compiled", {"backend": "eager"}),),
    ],
    ids=lambda given: given[0][0] if given else "plain",
)
def test_a_continuation_with_ends_inside_is_forced_whole(plain, optimization):
    engine = opened(*optimization) if optimization else plain
    given = chat(plain)
    for number, (item, scored) in enumerate(zip(engine.force(given), plain.score(given), strict=True)):
        assert item.token_ids == given[number].token_ids
        assert item.finish_reason == "length"
        assert np.abs(item.logprobs.token_logprobs - scored.token_logprobs).max() < ROUNDING


def test_prompts_with_ends_of_turns_in_them_are_questioned_whole(plain):
    """A mask that loses what comes before the end of a turn is seen only where such ends are forced."""
    prompts = [item.prompt_ids + item.token_ids for item in chat(plain)]
    assert plain.eos_token_ids & set(prompts[0])
    relations = ("prompt_length", "prefill_chunk", "repeat")
    assert invariant(plain, prompts, relations=relations).status is Status.PASS
    verdict = invariant(opened(ForgetsTurns()), prompts, relations=relations)
    assert verdict.status is Status.FAIL
    assert verdict.metrics["worst_kl.prompt_length"].status is Status.FAIL


def test_a_text_still_ends_where_it_is_not_forced(plain):
    (end, *_) = plain.eos_token_ids
    prompt = plain.encode("if")
    first = plain.generate([prompt], SamplingParams(max_new_tokens=3))[0].token_ids[0]
    (stopped,) = plain.generate([prompt], SamplingParams(max_new_tokens=8, stop_token_ids=(first,)))
    assert (stopped.finish_reason, len(stopped.token_ids)) == ("stop", 1)
    assert end in plain.eos_token_ids


def test_what_a_forward_does_around_its_base_model_is_scored():
    engine = opened(Around())
    given = chat(engine)
    decoded = [item.logprobs for item in engine.force(given)]
    for scored, own in zip(engine.score(given), decoded, strict=True):
        assert np.abs(scored.token_logprobs - own.token_logprobs).max() < ROUNDING


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 5),
        ("max_length", 64),
        ("do_sample", True),
        ("temperature", 0.7),
        ("top_k", 5),
        ("eos_token_id", 7),
        ("generation_config", object()),
        ("output_logits", False),
        ("return_dict_in_generate", False),
        ("num_beams", 4),
        ("attention_mask", None),
    ],
)
def test_an_argument_that_is_not_an_optimization_s_to_set_is_refused_at_load(name, value):
    with pytest.raises(OptionError, match=f"sets the generate argument '{name}' to .*leave it out"):
        opened(Arguments({name: value}))


def test_arguments_that_both_sides_have_are_merged(plain):
    seen = []

    def look(input_ids, scores):
        seen.append(("processor", input_ids.shape[1]))
        return scores

    def never(input_ids, _scores, **_options):
        seen.append(("criterion", input_ids.shape[1]))
        return input_ids.new_zeros(len(input_ids), dtype=bool)

    given = {"logits_processor": [look], "stopping_criteria": [never], "prefill_chunk_size": 4, "pad_token_id": 5}
    given |= {"output_logits": True, "return_dict_in_generate": True, "num_beams": 1, "min_new_tokens": 2}
    engine = opened(Arguments(given))
    prompts = [plain.encode(text) for text in PROMPTS]
    expected = plain.generate(prompts, SamplingParams(max_new_tokens=4))
    for own, theirs in zip(engine.generate(prompts, SamplingParams(max_new_tokens=4)), expected, strict=True):
        assert own.token_ids == theirs.token_ids
        assert own.timing.decode_tokens == 3, "our own criterion watches the clock"
    assert {kind for kind, _ in seen} == {"processor", "criterion"}
    forced = engine.force(chat(engine), prefill_chunk=3)
    assert [item.token_ids for item in forced] == [item.token_ids for item in chat(engine)]


def test_what_would_end_a_text_does_not_end_a_forced_one(plain):
    def at_once(input_ids, _scores, **_options):
        return input_ids.new_ones(len(input_ids), dtype=bool)

    engine = opened(Arguments({"stopping_criteria": [at_once], "stop_strings": ["list"]}))
    assert [item.token_ids for item in engine.force(chat(plain))] == [item.token_ids for item in chat(plain)]
    (ended,) = engine.generate([plain.encode("if")], SamplingParams(max_new_tokens=4))
    assert len(ended.token_ids) == 1


def no_names(_input_ids, scores):
    """A processor of a user: the token that is most often the best is never taken."""
    scores = scores.clone()
    scores[:, scores.mean(0).argmax()] = -float("inf")
    return scores


PENALTIES = [
    {"repetition_penalty": 1.4},
    {"no_repeat_ngram_size": 2, "min_new_tokens": 20},
    {"logits_processor": [no_names]},
]


@pytest.mark.parametrize("given", PENALTIES, ids=lambda given: next(iter(given)))
def test_a_penalty_that_both_sides_have_is_no_regret_and_one_of_the_candidate_alone_is(plain, given):
    candidate, reference = opened(Arguments(given)), opened(Arguments(given))
    same = equivalent(candidate, reference, PROMPTS, max_new_tokens=24, forced_tokens=0)
    assert same.status is Status.PASS, same.diagnosis
    assert equivalent(candidate, plain, PROMPTS, max_new_tokens=24, forced_tokens=0).status is Status.FAIL
    other = equivalent(plain, reference, PROMPTS, max_new_tokens=24, forced_tokens=0)
    assert other.metrics["max_regret"].status is Status.FAIL


@pytest.mark.parametrize("source", ["dropout", "random", "numpy"])
def test_noise_that_a_forward_draws_is_seen_by_repeat(source):
    verdict = invariant(opened(Noise(source)), PROMPTS, relations=("repeat",))
    assert verdict.status is Status.FAIL
    assert any("from another state of the random generators" in line for line in verdict.diagnosis)


def test_a_healthy_model_repeats_itself_to_the_bit(plain):
    verdict = invariant(plain, PROMPTS, relations=("repeat",))
    assert verdict.status is Status.PASS
    assert verdict.metrics["worst_kl.repeat"].estimate.point == 0


def test_an_engine_puts_back_what_it_sets_for_the_whole_process(plain):
    import torch

    torch.manual_seed(1)
    random.seed(2)
    np.random.seed(3)  # noqa: NPY002 - the state of the process is what this is about
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())  # noqa: NPY002
        engine = opened()
        engine.generate([engine.encode("if")], SamplingParams(max_new_tokens=2, temperature=1.0, seed=5))
        engine.score(chat(engine))
        engine.force(chat(engine), seed=7)
        engine.inspect()
        assert torch.get_num_threads() == threads + 1
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1] == random.getstate()
        assert np.array_equal(before[2], np.random.get_state()[1])  # noqa: NPY002
    finally:
        torch.set_num_threads(threads)


def test_a_reference_that_is_not_finite_is_an_error_of_the_reference(plain):
    reference = opened(NotFinite())
    with pytest.raises(UnsoundReferenceError, match=r"the reference itself is not finite: .* position \d+ of prompt "):
        equivalent(plain, reference, PROMPTS, max_new_tokens=4, forced_tokens=0)
    assert equivalent(reference, plain, PROMPTS, max_new_tokens=4, forced_tokens=0).status is Status.FAIL
