"""Tokens that a side does not have, padding without a row, short contexts, drafts that do not fit their target."""

import dataclasses
import json
import shutil
from contextlib import contextmanager
from typing import ClassVar

import pytest
from sides import asserted, open_side, running_of

from pytest_llmopt.core.errors import CombinationError, LlmoptError, NoRoomError, RequestError, VerdictError
from pytest_llmopt.core.loading import LoadPolicy, locate
from pytest_llmopt.core.optimization import Optimization, Promise
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.side import Context
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.optimizations.decoding.assisted import Assisted
from pytest_llmopt.optimizations.decoding.static_cache import StaticCache

PROMPTS = ["The value", "def main(", "one, two"]
LIMITS = {"kl_divergence": 1.0, "top1_agreement": 0.1, "perplexity_ratio": 2.0}
JUDGED = ("equivalent", "lossless", "accurate", "seeded", "optimized")


def opened(model, *options, **policy):
    applied = tuple(Applied(name, item) for name, item in options)
    return open_side(Variant(str(model), applied), LoadPolicy(**policy))


def check(name, *sides, prompts=PROMPTS, **options):
    return asserted(name, *sides, prompts, **(LIMITS if name == "accurate" else {}) | options)


@pytest.fixture(scope="module")
def plain():
    engine = opened("tiny-llama")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def copy_of(tmp_path_factory):
    """`copy_of(model, config=, rows=, louder=)`: the folder of a zoo model with other settings, or with more rows."""
    import torch
    from transformers import AutoModelForCausalLM

    def make(model, config=None, rows=0, louder=0.0):
        folder = tmp_path_factory.mktemp("models") / model
        shutil.copytree(locate(model), folder)
        if rows:
            changed = AutoModelForCausalLM.from_pretrained(folder)
            size = len(changed.get_output_embeddings().weight)
            changed.config.tie_word_embeddings = False
            changed.resize_token_embeddings(size + rows, mean_resizing=False)
            weight = changed.get_output_embeddings().weight.detach().clone()
            weight[size:] = louder * weight[:rows]
            changed.get_output_embeddings().weight = torch.nn.Parameter(weight)
            changed.save_pretrained(folder)
        settings = json.loads((folder / "config.json").read_text()) | (config or {})
        (folder / "config.json").write_text(json.dumps(settings))
        return folder

    return make


@pytest.fixture(scope="module")
def loud(copy_of):
    """A candidate whose head has 64 rows more than there are tokens, and prefers them."""
    engine = opened(copy_of("tiny-llama", rows=64, louder=20.0))
    yield engine
    engine.close()


@pytest.mark.parametrize("name", JUDGED)
def test_a_head_with_rows_that_are_no_tokens_fails_with_prompt_position_and_id(clear, plain, loud, name):
    with pytest.raises(VerdictError) as caught:
        check(name, loud, plain)
    prompt = "'002'" if name == "lossless" else "'000'"
    words = [f"{name} FAIL", "outside_vocabulary", "token id 10", prompt, "position", "ends at 1023"]
    clear(str(caught.value), words)


@pytest.fixture(scope="module")
def other():
    engine = opened("tiny-llama")
    yield engine
    engine.close()


@contextmanager
def emitting(engine, token):
    """Inside it, `generate` of the library gives another second token: what a bug in a kernel could do."""
    model = running_of(engine).loaded.model
    own = model.generate

    def generate(input_ids, **options):
        output = own(input_ids, **options)
        output.sequences[-1, input_ids.shape[1] + 1] = token
        return output

    model.generate = generate
    try:
        yield
    finally:
        del model.generate


@pytest.mark.parametrize("name", [*JUDGED, "invariant"])
@pytest.mark.parametrize("token", [1024, 2**31, -1])
def test_an_id_that_is_no_token_at_all_fails_the_candidate(clear, plain, other, name, token):
    with emitting(other, token), pytest.raises(VerdictError) as caught:
        check(name, other, plain)
    clear(str(caught.value), [f"{name} FAIL", "outside_vocabulary", f"token id {token}", "token 1 after the prompt"])


def test_an_engine_names_an_id_that_it_has_no_row_for(refusal, plain):
    refusal(lambda: plain.generate([(5, 1024)], SamplingParams(2)), ["1024 at position 1", "1023"], RequestError)
    refusal(lambda: plain.generate([(5, -1)], SamplingParams(2)), ["-1 at position 1"], RequestError)
    refusal(lambda: plain.score([Continuation((5,), (1024,))]), ["1024 at position 1"], RequestError)
    refusal(lambda: plain.force([Continuation((5,), (1024,))]), ["1024 at position 0"], RequestError)
    refusal(lambda: plain.score([Continuation((5,) * 1024, (6,))]), ["1025", "1024"], NoRoomError)


def test_padding_that_has_no_row_is_replaced_by_one_that_has(plain, copy_of):
    """It is masked out, so that the answers are those of a model with sound padding."""
    padded = opened("tiny-llama")
    running_of(padded).loaded.tokenizer.pad_token_id = 5
    real = dataclasses.replace(running_of(padded).loaded, tokenizer=_Named(running_of(padded).loaded.tokenizer, 4096))
    running_of(padded).loaded = running_of(padded).scorer._loaded = real
    prompts = [(5, 6, 7), (8, 9, 10, 11, 12)]
    theirs, own = (side.generate(prompts, SamplingParams(6)) for side in (plain, padded))
    assert [item.token_ids for item in own] == [item.token_ids for item in theirs]
    assert len(padded.score([item.continuation for item in own])) == 2


@dataclasses.dataclass(frozen=True)
class Padded(Optimization):
    """Sets the padding token of every call."""

    promise: ClassVar[Promise] = Promise.EQUIVALENT

    def for_transformers(self, plan):
        plan.set("generate", "pad_token_id", 1024, by="padded")


class _Named:
    """A tokenizer with another padding token."""

    def __init__(self, own, pad_token_id):
        self._own, self.pad_token_id = own, pad_token_id

    def __getattr__(self, name):
        return getattr(self._own, name)

    def __call__(self, *args):
        return self._own(*args)


def test_padding_that_an_optimization_asks_for_must_have_a_row(refusal):
    refusal(lambda: opened("tiny-llama", ("test.padded", Padded())), ["pad_token_id=1024", "end at 1023"])


def test_a_cache_that_no_machine_has_room_for_is_said_to_be_one(refusal, copy_of):
    folder = copy_of("tiny-llama", {"max_position_embeddings": 2**31 - 1})
    vast = opened(folder, ("decoding.static_cache", StaticCache(max_cache_len=2**31 - 1)))
    refusal(lambda: vast.generate([(5, 6)], SamplingParams(2)), ["no memory", "shorter cache"], RequestError)


SHORT = {"max_position_embeddings": 16, "rope_scaling": None, "rope_parameters": {"rope_type": "default"}}


@pytest.fixture(scope="module", params=[16, 32])
def short(request, copy_of):
    config = SHORT | {"max_position_embeddings": request.param}
    engine = opened(copy_of("tiny-llama", config))
    yield engine
    engine.close()


def test_a_relation_that_does_not_fit_is_left_out_alone(short):
    found = check("invariant", short, short)
    assert found.status is Status.PASS
    left_out = {line.split(": ")[1]: line for line in found.diagnosis if line.startswith("not applicable")}
    for name in ("later_token", "decoded_prefix", "prefill_chunk", "entry_points"):
        assert f"there is room for {short.max_length}" in left_out[name]
    for name in ("repeat", "padding", "prompt_length"):
        assert name not in left_out
        assert f"worst_kl.{name}" in found.metrics


@pytest.mark.parametrize("name", ["equivalent", "accurate", "lossless"])
def test_a_check_says_what_does_not_fit_a_short_context(refusal, short, name):
    words = ["prompt '00", "does not fit", f"room for {short.max_length} in all", "a smaller max_new_tokens"]
    refusal(lambda: check(name, short, short), words)


@pytest.mark.near_limit("that there is a verdict at all is what is tested; a few tokens decide little")
@pytest.mark.parametrize("name", ["equivalent", "accurate", "lossless", "seeded", "optimized", "invariant"])
def test_what_fits_a_short_context_is_judged(clear, short, name):
    reference = opened(short.variant.model)
    options = {"max_tokens": 64} if name == "lossless" else {}
    try:
        found = check(name, short, reference, max_new_tokens=4, **options)
    except VerdictError as error:
        clear(str(error), [f"{name} INCONCLUSIVE"])
    else:
        assert found.status is Status.PASS


@pytest.mark.parametrize("name", ["seeded", "optimized", "invariant"])
def test_new_tokens_that_fill_the_context_leave_no_room(refusal, short, name):
    words = [f"max_new_tokens={short.max_length} leaves no room", f"{short.max_length} tokens in all"]
    refusal(lambda: check(name, short, short, max_new_tokens=short.max_length), words)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_cache_of_a_few_tokens_is_said_to_be_too_short(refusal, plain, size):
    small = opened("tiny-llama", ("decoding.static_cache", StaticCache(max_cache_len=size)))
    for name in ("equivalent", "invariant"):
        refusal(lambda: check(name, small, plain), [f"room for {size}"])  # noqa: B023


@pytest.mark.parametrize("rows", [7, 64])
def test_a_draft_with_a_padded_head_is_refused_with_both_sizes(refusal, copy_of, rows):
    draft = copy_of("tiny-llama-draft", rows=rows)
    words = [f"{1024 + rows} logits", "1024", "padded", "another draft"]
    refusal(lambda: opened("tiny-llama", ("decoding.assisted", Assisted(str(draft)))), words, CombinationError)


def test_a_draft_with_a_shorter_context_sets_the_room(refusal, plain, copy_of):
    draft = copy_of("tiny-llama-draft", SHORT)
    engine = opened("tiny-llama", ("decoding.assisted", Assisted(str(draft))))
    context = Context(open=lambda variant: opened(variant.model))
    side = dataclasses.replace(engine, context=context)
    assert side.max_length == 16
    refusal(lambda: check("equivalent", side, plain), ["prompt '000'", "assisted", "room for 16", "its draft's"])
    refusal(lambda: check("optimized", side, plain), ["room for 16", "draft"])
    assert check("lossless", side, plain, max_new_tokens=4, max_tokens=64).status is Status.PASS
    assert check("invariant", side, plain, max_new_tokens=4).status is Status.PASS


def test_a_candidate_of_another_vocabulary_fails_in_a_test(run_bad, copy_of):
    folder = copy_of("tiny-llama", rows=64, louder=20.0)
    source = """
from pytest_llmopt import llmopt

@llmopt.against(model="tiny-llama")
def test_it(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts)
"""
    words = ["equivalent FAIL", "outside_vocabulary", "token id 10", "prompt 'code'", "ends at 1023", "1 failed"]
    run_bad(words, f"--llmopt-model={folder}", source=source)


def test_a_short_context_is_named_in_a_test(run_bad, copy_of):
    folder = copy_of("tiny-llama", SHORT)
    body = "llmopt.assert_equivalent(candidate, reference, prompts)"
    words = ["does not fit", "room for 16 in all", "1 failed"]
    run_bad(words, f"--llmopt-model={folder}", body=body)
    assert issubclass(NoRoomError, LlmoptError)
