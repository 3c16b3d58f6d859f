"""An engine that only generates, with its 20 favorites, as a server does: judged as far as it goes, and no further."""

import dataclasses

import pytest
from sides import as_, asserted, open_side, running_of

from pytest_llmopt.assertions import assertion
from pytest_llmopt.checks.accurate import accurate
from pytest_llmopt.checks.equivalent import equivalent
from pytest_llmopt.core.engine import EngineWrapper
from pytest_llmopt.core.errors import NotAnsweredError, VerdictError
from pytest_llmopt.core.loading import fixtures_folder
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.requests import ForceDecode, Generate, Score
from pytest_llmopt.core.side import Context
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.core.verdict import Status

TOP = 20
LIMITS = {"kl_divergence": 0.01, "top1_agreement": 0.9, "perplexity_ratio": 1.1}


@dataclasses.dataclass(frozen=True)
class ServerLike(EngineWrapper):
    """A real model behind as much of a seam as a server has."""

    known: int = TOP
    answers = frozenset({Generate})

    def ask(self, request):
        assert type(request) in self.answers, "nothing else is ever asked"
        return tuple(
            dataclasses.replace(item, logprobs=cut(item.logprobs, self.known)) for item in self.engine.ask(request)
        )


def cut(known, top):
    best = (known.top_ids[:, :top], known.top_logprobs[:, :top])
    return TopLogprobs(known.token_ids, known.token_logprobs, *best, known.vocab_size)


@pytest.fixture(scope="module")
def prompts():
    return PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl").take(16)


@pytest.fixture(scope="module")
def real():
    side = open_side(Variant("tiny-llama", dtype="float32", device="cpu"))
    yield side
    side.close()


@pytest.fixture
def reference(real):
    return as_("reference", real)


@pytest.fixture
def server(real):
    return dataclasses.replace(real, engine=ServerLike(real.engine))


@pytest.fixture
def spoiled(real):
    """The weights of the reference, one of them off, for as long as a test takes."""
    layer = running_of(real).loaded.model.model.layers[1].mlp.down_proj
    before = layer.weight.data.clone()

    @dataclasses.dataclass(frozen=True)
    class Spoiled(ServerLike):
        def ask(self, request):
            layer.weight.data = before * 1.1
            try:
                return super().ask(request)
            finally:
                layer.weight.data = before

    return dataclasses.replace(real, engine=Spoiled(real.engine))


def test_equivalent_judges_what_was_decoded_and_names_the_rest(server, reference, prompts):
    verdict = equivalent(server, reference, prompts, max_new_tokens=16)
    assert verdict.status is Status.PASS
    assert {"forced positions", "forward pass", "recompilations"} <= set(verdict.not_judged)
    assert verdict.looked_at["greedy positions"] >= 64
    assert "recompilations" not in verdict.metrics
    assert all("does not answer" in reason for name, reason in verdict.not_judged.items() if name != "tail")


def test_accurate_judges_the_decode_path_and_names_the_rest(server, reference, prompts):
    verdict = accurate(server, reference, prompts, max_new_tokens=16, **LIMITS)
    assert verdict.status is Status.PASS
    assert {"prefill", "memory"} <= set(verdict.not_judged)
    assert {"kl_prefill", "perplexity_ratio", "weight_memory", "weight_saving"}.isdisjoint(verdict.metrics)
    assert verdict.metrics["kl_decode"].status is Status.PASS


def test_a_few_favorites_of_many_are_said_to_be_few(real, reference, prompts):
    server = dataclasses.replace(real, engine=ServerLike(real.engine, known=2))
    verdict = accurate(server, reference, prompts, max_new_tokens=16, **LIMITS)
    assert "2 of 1024 log-probabilities" in verdict.not_judged["tail"]


@pytest.mark.parametrize("check", [equivalent, accurate])
def test_what_is_wrong_is_found_on_it_too(spoiled, reference, prompts, check):
    limits = LIMITS | {"kl_divergence": 1e-5} if check is accurate else {}
    assert check(spoiled, reference, prompts, max_new_tokens=16, **limits).status is Status.FAIL


@pytest.mark.parametrize(
    ("name", "needed"), [("equivalent", "score"), ("accurate", "score"), ("lossless", "score"), ("optimized", "score")]
)
def test_a_reference_that_cannot_score_is_a_missing_requirement_with_that_name(server, real, prompts, name, needed):
    with pytest.raises(
        NotAnsweredError, match=r"the reference cannot be judged: engine 'transformers' does not answer"
    ) as caught:
        asserted(name, real, server, prompts, **(LIMITS if name == "accurate" else {}))
    assert caught.value.name == needed


@pytest.mark.parametrize(("name", "needed"), [("optimized", "inspect"), ("invariant", "force_decode")])
def test_a_candidate_that_cannot_answer_the_one_thing_is_a_requirement_too(server, real, prompts, name, needed):
    with pytest.raises(NotAnsweredError) as caught:
        asserted(name, server, real, prompts)
    assert caught.value.name == needed


def test_relations_that_it_cannot_be_asked_about_are_not_judged(real, prompts):
    @dataclasses.dataclass(frozen=True)
    class Forced(EngineWrapper):
        answers = frozenset({Generate, ForceDecode})

    side = dataclasses.replace(real, engine=Forced(real.engine))
    verdict = asserted("invariant", side, side, prompts)
    assert verdict.status is Status.PASS
    assert "worst_kl.repeat" in verdict.metrics
    assert "unused_cache" in verdict.not_judged


def test_required_evidence_makes_of_it_a_failure_that_says_what_is_missing(server, reference, prompts):
    strict = dataclasses.replace(server, context=Context(requires_evidence=True))
    check = assertion("equivalent", Registry("checks", "check").load("equivalent"))
    with pytest.raises(
        VerdictError, match=r"(?s)equivalent FAIL: not_judged \d parts.*not judged: forced positions: cand"
    ):
        check(strict, reference, prompts, max_new_tokens=8)


def test_a_score_is_what_the_word_says(real):
    assert Score.requirement() == "score"
    assert Score in real.engine.answers
