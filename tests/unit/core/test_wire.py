"""Every request and every answer crosses to another process and comes back equal; nothing else does."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pytest_llmopt.core import answers, inspection, probing, requests, wire
from pytest_llmopt.core.engine import ModelInfo
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.optimizations.decoding.static_cache import StaticCache
from pytest_llmopt.optimizations.quantization.bitsandbytes import BitsAndBytes

PART = Continuation((1, 2), (3, 4, 5))
SAMPLING = SamplingParams(7, temperature=0.5, stop_token_ids=(3,))
ROWS = np.array([0, 3])
REQUESTS = [
    requests.Generate(((1, 2), (3,)), SAMPLING),
    requests.Score((PART,), fresh=True),
    requests.ForceDecode((PART, PART), prefill_chunk=2, unused_cache=1e3),
    requests.ScoreChoice((PART,), (4,)),
    requests.Vary(requests.Vary(requests.Score((PART,)), "permuted", 3), "float32"),
    requests.MeasureMemory(),
    requests.MeasureLoading(),
    requests.Inspect(),
    requests.CountGraphs(),
    requests.RepeatCall(((1,),), SAMPLING),
    requests.FindLacks(),
    requests.ListEntryPoints(),
    requests.ScoreThrough("embeddings", PART),
    requests.ReadWeights(),
    requests.SaveCheckpoint("/a/folder"),
    requests.DescribeProjection("a.b"),
    requests.ReadProjection("a.b", ROWS),
    requests.MapProjection("a.b", ROWS),
    requests.RunProjection("a.b", np.ones((1, 2, 3), np.float32), None),
]


def logprobs(tokens=3, vocab=5, seed=0):
    rng = np.random.default_rng(seed)
    values = np.log(rng.dirichlet(np.ones(vocab), tokens)).astype(np.float32)
    return TopLogprobs.from_logprobs(rng.integers(0, vocab, tokens), values, 4)


def generation(seed=0):
    steps = (answers.DecodeStep(2, 3), answers.DecodeStep(1))
    return answers.Generation((1, 2), logprobs(seed=seed), "length", steps, answers.Timing(0.5, 1.5, 2), 1)


ANSWERS = {
    "generations": (generation(0), generation(1)),
    "scores": (logprobs(), logprobs(seed=4)),
    "nothing": None,
    "memory": answers.Footprint(10, 4, {"float32": 10}),
    "costs": {"load_s": 0.5},
    "inspection": inspection.Inspection(
        {"Linear": 3},
        (inspection.Projection("q", "Linear[Parameter]", 8, 2),),
        cache=inspection.CacheInUse("StaticCache", {"StaticLayer": 2}, 2, None),
        passes=(inspection.ForwardPass(1, 2, 3),),
        checkpoint={"rope": "{}"},
    ),
    "graphs": 3,
    "work": inspection.Work(0.0, "", None, 2),
    "names": ("a", "b"),
    "weights": {"w": ((2, 3), "torch.float32", -(2**62), 7)},
    "shape": probing.ProjectionShape(2, 3, np.array([2, 0, 1])),
    "map": probing.AffineMap(np.eye(2), np.zeros(2)),
    "stored": probing.StoredMap(np.eye(2), np.zeros(2), -1.0, math.inf),
    "array": np.zeros((0, 3), np.float32),
    "info": ModelInfo(Variant("m"), 7, "float32", frozenset({1, 2}), None, Variant("draft")),
    "policy": LoadPolicy(cache=Path("/a/b"), threads=2),
}


def crossed(value):
    message = wire.pack(value)
    content, held = wire.sizes(message[: wire.HEAD.size])
    body = message[wire.HEAD.size :]
    assert len(body) == content + held
    return wire.unpack(body[:content], body[content:])


def same(one, other):
    assert type(one) is type(other)
    if dataclasses.is_dataclass(one) and not isinstance(one, Variant):
        for item in dataclasses.fields(one):
            same(getattr(one, item.name), getattr(other, item.name))
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            same(left, right)
    else:
        assert one == other


def test_every_request_there_is_stands_in_this_table():
    assert {type(item) for item in REQUESTS} == set(requests.every_request())


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda item: type(item).__name__)
def test_a_request_crosses(request_):
    same(request_, crossed(request_))


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_crosses(name):
    same(ANSWERS[name], crossed(ANSWERS[name]))


def test_what_every_request_answers_with_is_known_to_the_codec():
    known = set(wire.TYPES)
    for module in (answers, inspection, probing):
        own = [kind for kind in vars(module).values() if dataclasses.is_dataclass(kind)]
        assert {kind.__name__ for kind in own if kind.__module__ == module.__name__} <= known


def test_many_small_arrays_are_few_members():
    one = len(wire.pack((generation(),)))
    many = len(wire.pack(tuple(generation(seed) for seed in range(64))))
    assert many < 64 * one * 0.75


@pytest.mark.parametrize("high", [3, 2**15 - 1, 2**15, 2**31 - 1, 2**31, 2**63 - 1])
@pytest.mark.parametrize("low", [0, -(2**15), -(2**31) - 1])
def test_whole_numbers_cross_in_few_bytes_and_come_back_in_their_own(low, high):
    numbers = np.array([low, high, *range(3000)])
    back = crossed((numbers, numbers.reshape(2, -1)))
    assert [(item.dtype, item.tolist()) for item in back] == [
        (np.int64, item.tolist()) for item in (numbers, numbers.reshape(2, -1))
    ]
    small = low >= -(2**15) and high < 2**15
    assert (len(wire.pack(numbers)) < 3 * numbers.size) is small


@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.bool_, np.uint8]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
@settings(max_examples=60, deadline=None)
def test_any_array_crosses_to_the_bit(array):
    back = crossed((array, array))
    assert [item.tobytes() for item in back] == [array.tobytes()] * 2


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: (
            st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=3) | st.frozensets(st.integers())
        ),
        max_leaves=8,
    )
)
@settings(max_examples=100, deadline=None)
def test_any_plain_value_crosses(value):
    assert crossed(value) == value


def test_nan_and_infinity_cross():
    back = crossed((math.nan, math.inf, -math.inf))
    assert math.isnan(back[0])
    assert back[1:] == (math.inf, -math.inf)


@pytest.mark.parametrize(
    "value",
    [object(), print, np.array([object()]), {"a": {1: print}}],
    ids=["an object", "a function", "an array", "inside"],
)
def test_what_is_no_plain_data_is_refused_before_it_is_sent(value):
    with pytest.raises(wire.WireError, match="cannot cross"):
        wire.pack(value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "cannot be read"),
        (b'{"type": "Popen", "fields": {"args": "ls"}}', "'Popen', which is not known here"),
        (b'{"array": ["<f4", [3], 0]}', "cannot be read"),
        (b'{"type": "Score", "fields": {"other": 1}}', "cannot be read"),
        (b'{"elsewhere": 1}', "not known here"),
    ],
)
def test_what_is_no_message_is_an_error_and_runs_nothing(content, words):
    with pytest.raises(wire.WireError, match=words):
        wire.unpack(content, b"")


def test_pickles_are_not_read():
    stream = __import__("io").BytesIO()
    np.save(stream, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(wire.WireError, match="an array of objects"):
        wire.unpack(b'{"array": ["a", [1], 0]}', stream.getvalue())


def test_garbage_is_no_head():
    with pytest.raises(wire.WireError, match="no beginning"):
        wire.sizes(b"HTTP/1.1 200 OK\r\n"[: wire.HEAD.size])


@dataclasses.dataclass(frozen=True)
class Elsewhere(StaticCache):
    """An optimization that no registry knows."""

    label: tuple = ("a", 1)
    more: float = math.inf


@pytest.mark.parametrize(
    "variant",
    [
        Variant("m", (), "bfloat16", "cuda:1", process="own"),
        Variant("m", (Applied("decoding.static_cache", StaticCache(max_cache_len=64)),)),
        Variant("m", (Applied("quantization.bitsandbytes", BitsAndBytes(bits=8)),)),
        Variant("m", (Applied("test.elsewhere", Elsewhere(label=("b", ("c", 2.5)))),)),
    ],
    ids=["plain", "cache", "quantized", "of a test"],
)
def test_a_variant_survives_json(variant):
    back = Variant.from_json(__import__("json").loads(__import__("json").dumps(variant.to_json())))
    assert back == variant
    assert back.digest == variant.digest
    same(variant, crossed(variant))


def test_an_option_that_is_no_data_is_refused_with_its_name():
    @dataclasses.dataclass(frozen=True)
    class Inside:
        promise = requirements = conflicts = ()
        change: object = print

    with pytest.raises(OptionError, match=r"test\.inside: change=.*cannot be written down"):
        Variant("m", (Applied("test.inside", Inside()),)).to_json()


def test_a_class_inside_a_function_cannot_be_found_and_the_error_says_what_to_do():
    @dataclasses.dataclass(frozen=True)
    class Inside:
        promise = requirements = conflicts = ()

    content = Variant("m", (Applied("test.inside", Inside()),)).to_json()
    with pytest.raises(OptionError, match=r"cannot be found from another process.*Define it at the top of a file"):
        Variant.from_json(content)
