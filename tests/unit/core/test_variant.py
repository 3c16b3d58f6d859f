"""A variant describes one side of a comparison, and its digest stands for that description."""

import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmopt.core.errors import CombinationError, OptionError
from pytest_llmopt.core.optimization import Promise
from pytest_llmopt.core.requirements import Package
from pytest_llmopt.core.variant import DTYPES, Applied, Variant


@dataclass(frozen=True)
class Cache:
    promise: ClassVar[Promise] = Promise.EQUIVALENT
    conflicts: ClassVar[dict[str, str]] = {"decoding.draft": "it rewinds the cache"}
    requirements: ClassVar[tuple[Package, ...]] = (Package("numpy"),)

    length: int | None = None
    compile: bool = False

    def for_transformers(self, plan):
        """Nothing: these tests load nothing."""


@dataclass(frozen=True)
class Draft:
    promise: ClassVar[Promise] = Promise.EQUIVALENT
    conflicts: ClassVar[dict[str, str]] = {}
    requirements: ClassVar[tuple[Package, ...]] = ()

    def for_transformers(self, plan):
        """Nothing."""

    def for_vllm(self, plan):
        """Nothing."""


@dataclass(frozen=True)
class Quantizer:
    promise: ClassVar[Promise] = Promise.ACCURATE
    conflicts: ClassVar[dict[str, str]] = {"quantization": "a model is quantized once"}
    requirements: ClassVar[tuple[Package, ...]] = (Package("scipy"),)

    def for_transformers(self, plan):
        """Nothing."""


CACHE = Applied("decoding.cache", Cache())
DRAFT = Applied("decoding.draft", Draft())
QUANTIZED = Applied("quantization.a", Quantizer())

OPTIMIZATIONS = st.sampled_from([CACHE, Applied("decoding.cache", Cache(8)), Applied("b.cache", Cache()), DRAFT])
VARIANTS = st.builds(
    Variant,
    model=st.sampled_from(["a", "b"]),
    optimizations=st.lists(OPTIMIZATIONS, max_size=2).map(tuple),
    dtype=st.sampled_from(DTYPES[:2]),
    device=st.sampled_from(["cpu", "cuda"]),
    engine=st.sampled_from(["transformers", "vllm"]),
)


@settings(derandomize=True, deadline=None)
@given(VARIANTS, VARIANTS)
def test_digest_is_equal_exactly_when_the_description_is(one, other):
    assert (one.digest == other.digest) == (one == other)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"dtype": "bfloat16"},
        {"device": "cpu"},
        {"engine": "vllm"},
        {"optimizations": ()},
        {"optimizations": (Applied("decoding.cache", Cache(compile=True)),)},
        {"optimizations": (Applied("decoding.other", Cache()),)},
    ],
)
def test_digest_changes_with_every_part(change):
    plain = {"model": "m", "optimizations": (CACHE,)}
    assert Variant(**plain).digest != Variant(**(plain | change)).digest


def test_digest_depends_on_the_order_of_optimizations():
    assert Variant("m", (CACHE, DRAFT)).digest != Variant("m", (DRAFT, CACHE)).digest


@pytest.mark.parametrize(("one", "other"), [(Cache(8), Cache(8.0)), (Cache(compile=True), Cache(compile=1))])
def test_digest_is_equal_for_options_that_are_equal(one, other):
    """Else `threshold=6` and the default 6.0 have one label and are loaded twice."""
    variants = [Variant("m", (Applied("decoding.cache", options),)) for options in (one, other)]
    assert variants[0] == variants[1]
    assert variants[0].digest == variants[1].digest


def test_digest_is_twelve_hexadecimal_digits_and_stable_across_processes():
    code = (
        "from pytest_llmopt.core.variant import Applied, Variant\n"
        "from pytest_llmopt.optimizations.decoding.static_cache import StaticCache\n"
        "print(Variant('m', (Applied('decoding.static_cache', StaticCache(compile=True)),)).digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": seed}
        ).stdout.strip()
        for seed in ("1", "2")
    }
    (digest,) = digests
    assert len(digest) == 12
    assert int(digest, 16) >= 0


def test_a_variant_is_hashable_and_frozen():
    assert len({Variant("m", (CACHE,)), Variant("m", (Applied("decoding.cache", Cache()),))}) == 1
    with pytest.raises(AttributeError):
        Variant("m").model = "other"


def test_dtype_that_no_engine_has_is_refused_with_the_allowed_ones():
    with pytest.raises(OptionError, match=r"dtype 'int3' .* allowed: auto, float32, bfloat16"):
        Variant("m", dtype="int3")


@pytest.mark.parametrize(
    ("optimizations", "label"),
    [
        ((), "unoptimized"),
        ((CACHE,), "cache"),
        ((Applied("decoding.cache", Cache(64)),), "cache(length=64)"),
        ((Applied("decoding.cache", Cache(64, compile=True)),), "cache(length=64, compile=True)"),
        ((QUANTIZED, CACHE), "a + cache"),
    ],
)
def test_label_shows_the_options_that_are_not_at_their_default(optimizations, label):
    assert Variant("m", optimizations).label == label


def test_family_and_short_name_are_the_two_parts_of_the_name():
    assert (QUANTIZED.family, QUANTIZED.short_name) == ("quantization", "a")


def test_unoptimized_keeps_everything_but_the_optimizations():
    assert Variant("m", (CACHE,), "float64", "cpu", "e").unoptimized() == Variant("m", (), "float64", "cpu", "e")


def test_requirements_and_promises_are_those_of_all_optimizations():
    variant = Variant("m", (QUANTIZED, CACHE))
    assert [item.name for item in variant.requirements] == ["scipy", "numpy"]
    assert variant.promises == {Promise.ACCURATE, Promise.EQUIVALENT}
    assert Variant("m").promises == frozenset()


def test_check_accepts_what_can_be_stacked():
    Variant("m", (QUANTIZED, CACHE)).check()
    Variant("m", (DRAFT,), engine="vllm").check()
    Variant("m", engine="anything").check()


def test_check_refuses_an_engine_without_support_and_names_those_that_have_it():
    with pytest.raises(CombinationError, match=r"decoding\.cache .* engine 'vllm'; it can on: transformers"):
        Variant("m", (DRAFT, CACHE), engine="vllm").check()


@pytest.mark.parametrize("order", [(CACHE, DRAFT), (DRAFT, CACHE)], ids=["forward", "backward"])
def test_check_refuses_a_conflict_whichever_side_declares_it(order):
    with pytest.raises(CombinationError, match=r"decoding\.cache cannot be combined with decoding\.draft: it rewinds"):
        Variant("m", order).check()


def test_check_refuses_a_conflict_with_a_whole_family():
    other = Applied("quantization.b", Draft())
    for order in ((QUANTIZED, other), (other, QUANTIZED)):
        with pytest.raises(CombinationError, match="a model is quantized once"):
            Variant("m", order).check()


def test_check_refuses_the_same_optimization_twice_and_shows_both():
    with pytest.raises(CombinationError, match=r"stacked twice: cache and cache\(length=8\)"):
        Variant("m", (CACHE, QUANTIZED, Applied("decoding.cache", Cache(8)))).check()
