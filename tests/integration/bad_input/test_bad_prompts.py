"""What a `prompts` fixture may return: texts and token ids that both sides know and have room for."""

import numpy as np
import pytest
from sides import asserted, fake_side, open_side

from pytest_llmopt.core.errors import PromptError
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.prompt import Prompt
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.requests import Generate, Score
from pytest_llmopt.core.variant import Variant

GIVEN = {
    "None": (None, ["got NoneType", "return the prompts"]),
    "text": ("abc", ["got str", "into a list"]),
    "bytes": (b"abc", ["got bytes", "decode"]),
    "number": (5, ["got int"]),
    "dictionary": ({"a": "b"}, ["got dict", "list(prompts.values())"]),
    "set": ({"a", "b"}, ["got set", "sorted(prompts)"]),
    "generator": ((text for text in "ab"), ["got generator", "list(prompts)"]),
    "map": (map(str, [1]), ["got map", "list(prompts)"]),
    "matrix": (np.ones((2, 2)), ["got ndarray", "tolist()"]),
    "function": (print, ["got builtin_function_or_method"]),
    "nothing": ([], ["prompt set is empty"]),
    "empty text": (["fine", ""], ["prompt 1", "none of them empty"]),
    "empty ids": ([[]], ["prompt 0", "none of them empty"]),
    "None inside": (["fine", None], ["prompt 1", "None"]),
    "bytes inside": ([b"abc"], ["prompt 0", "b'abc'"]),
    "number inside": (["fine", 5], ["prompt 1", "5"]),
    "dictionary inside": ([{"text": "a"}], ["prompt 0", "{'text': 'a'}"]),
    "matrix inside": ([np.ones((2, 2), int)], ["prompt '000'", "token_ids"]),
    "floats": ([[1.0, 2.0]], ["prompt '000'", "whole number"]),
    "floats of numpy": ([np.array([1.0, 2.0])], ["prompt '000'", "whole number"]),
    "truths": ([[True, False]], ["prompt '000'", "whole number"]),
    "truths of numpy": ([[np.bool_(1)]], ["prompt '000'", "whole number"]),
    "below": ([[1, -3]], ["prompt '000'", "from 0"]),
    "lists in lists": ([[[1, 2]]], ["prompt '000'", "whole number"]),
    "without end": ([[10**190]], ["prompt '000'", "..."]),
    "surrogate": (["\ud800abc"], ["prompt '000'", "surrogate"]),
    "the same id": ([Prompt("a", "x"), Prompt("a", "y")], ["more than once: a"]),
}


@pytest.mark.parametrize("case", GIVEN)
def test_what_are_no_prompts_is_refused(refusal, case):
    given, words = GIVEN[case]
    refusal(lambda: PromptSet.of(given), words, PromptError)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"id": 3, "text": "a"}, ["its id=3"]),
        ({"id": "", "text": "a"}, ["its id=''"]),
        ({"id": "a", "text": None}, ["prompt 'a'", "None"]),
        ({"id": "a", "token_ids": "12"}, ["its token_ids='12'"]),
        ({"id": "a", "text": "b", "kind": 3}, ["its kind=3"]),
    ],
)
def test_a_prompt_by_hand_is_held_to_the_same(refusal, arguments, words):
    refusal(lambda: Prompt(**arguments), words, PromptError)


@pytest.fixture(scope="module")
def engine():
    engine = open_side(Variant("tiny-llama"), LoadPolicy())
    yield engine
    engine.close()


LIMITS = {"kl_divergence": 1.0, "top1_agreement": 0.1, "perplexity_ratio": 2.0}
NAMES = ["equivalent", "accurate", "lossless", "seeded", "optimized", "invariant"]
UNUSABLE = {
    "outside": ([[1, 2, 3], [5, 1024]], ["prompt '001'", "1024 at position 1", "tiny-llama ends at 1023"]),
    "far outside": ([[5, 2**31 - 1]], ["prompt '000'", "2147483647 at position 1"]),
    "too long": ([[5] * 5000], ["prompt '000'", "5000 tokens", "room for 1024"]),
}


# The last three take the end of each prompt, so that none is too long for them.
@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for case in UNUSABLE for name in (NAMES[:3] if case == "too long" else NAMES)]
)
def test_ids_outside_the_vocabulary_and_texts_without_room_are_named(refusal, engine, name, case):
    prompts, words = UNUSABLE[case]
    options = LIMITS if name == "accurate" else {}
    refusal(lambda: asserted(name, engine, engine, prompts, **options), words, PromptError)


def test_ids_that_only_the_reference_lacks_are_named(refusal, engine):
    known = dict.fromkeys((Generate, Score))
    smaller = fake_side(known, variant=Variant("smaller"), vocab_size=512, dtype="int3")
    words = ["prompt '000'", "600 at position 1", "smaller ends at 511"]
    refusal(lambda: asserted("equivalent", engine, smaller, [[5, 600]]), words, PromptError)


def test_more_prompts_than_there_are_takes_all_and_numpy_counts(engine):
    given = [[np.int64(5), np.int64(7), np.int64(9)], np.array([4, 6, 8]), "text"]
    assert asserted("seeded", engine, engine, given, num_prompts=100).looked_at["prompts"] >= 3


THROUGH_PYTEST = {
    "None": ("return None", ["got NoneType", "return the prompts"]),
    "generator": ("return (text for text in 'ab')", ["got generator", "list(prompts)"]),
    "dictionary": ("return {'a': 'b'}", ["got dict", "list(prompts.values())"]),
    "outside": ("return [[5, 99999]]", ["prompt '000'", "99999 at position 1"]),
}


@pytest.mark.parametrize("case", THROUGH_PYTEST)
def test_a_fixture_of_the_user_is_told_what_to_return(run_bad, case):
    body, words = THROUGH_PYTEST[case]
    source = f"""
import pytest
from pytest_llmopt import llmopt

@pytest.fixture
def prompts():
    {body}

def test_it(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts)
"""
    run_bad(words, "--llmopt-model", "tiny-llama", source=source)
