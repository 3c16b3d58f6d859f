"""An engine applies our optimizations without their knowing it, and an optimization of others reaches our engines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from pytest_llmopt import Promise
from pytest_llmopt.core import applying
from pytest_llmopt.core.applying import ModelSource, apply, apply_inherited, can_apply
from pytest_llmopt.core.errors import CombinationError
from pytest_llmopt.core.loading import LoadPolicy, locate
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.optimizations.decoding.static_cache import StaticCache
from pytest_llmopt.optimizations.quantization.auto_round import AutoRound
from pytest_llmopt.optimizations.quantization.awq import Awq
from pytest_llmopt.optimizations.quantization.compressed_tensors import CompressedTensors
from pytest_llmopt.optimizations.quantization.gptq import Gptq
from pytest_llmopt.optimizations.quantization.higgs import Higgs

LOADS = frozenset(
    {"quantization.gptq", "quantization.awq", "quantization.auto_round", "quantization.compressed_tensors"}
)
"""What an engine such as vLLM loads: this one line is all that it says of them."""


@dataclass(frozen=True)
class OfOthers:
    """What somebody else wrote, for one of our engines, in one file."""

    promise: ClassVar[Promise] = Promise.EQUIVALENT
    requirements: ClassVar[tuple] = ()
    conflicts: ClassVar[dict] = {}

    def for_transformers(self, plan):
        plan.weights = "theirs"


@dataclass(frozen=True)
class Longer(StaticCache):
    """One that adds to what an engine does with its base."""

    def for_transformers(self, plan):
        apply_inherited("transformers", self, plan)
        plan.seen = True


@dataclass(frozen=True)
class AsItsBase(StaticCache):
    """One that adds nothing."""


def source(tmp_path, model="tiny-llama"):
    return ModelSource(locate(model), "float32", "cpu", LoadPolicy(cache=tmp_path))


def test_its_own_method_comes_first(tmp_path):
    plan = source(tmp_path)
    apply("transformers", "x.of_others", OfOthers(), plan)
    assert plan.weights == "theirs"
    assert can_apply("transformers", "x.of_others", OfOthers())
    assert not can_apply("other", "x.of_others", OfOthers())


@pytest.mark.parametrize(
    "options", [StaticCache(max_cache_len=64), AsItsBase(max_cache_len=64), Longer(max_cache_len=64)]
)
def test_what_derives_from_one_of_ours_is_applied_as_that_is(options):
    from pytest_llmopt.engines._transformers.plan import LoadPlan

    plan = LoadPlan("m", "float32", "cpu", LoadPolicy())
    apply("transformers", "x.mine", options, plan)
    assert plan.max_length == 64
    assert getattr(plan, "seen", False) == isinstance(options, Longer)


def test_a_method_without_a_file_of_its_own_is_applied_as_its_kind():
    assert can_apply("transformers", "quantization.higgs", Higgs())


@pytest.mark.parametrize("kind", [Gptq, Awq, AutoRound, CompressedTensors])
def test_an_engine_that_loads_the_format_needs_no_more(kind):
    name = kind.__module__.removeprefix("pytest_llmopt.optimizations.")
    assert can_apply("vllm", name, kind(), LOADS)
    assert not can_apply("vllm", name, kind())
    Variant("m", (Applied(name, kind()),), engine="vllm").check(LOADS)
    with pytest.raises(CombinationError, match=f"{name} cannot run on engine 'vllm'; it can on: transformers"):
        Variant("m", (Applied(name, kind()),), engine="vllm").check()


def test_the_produced_checkpoint_is_what_such_an_engine_loads(tmp_path):
    pytest.importorskip("compressed_tensors")
    plan = source(tmp_path)
    apply("vllm", "quantization.compressed_tensors", CompressedTensors("W4A16", group_size=64), plan, LOADS)
    config = json.loads(Path(plan.weights, "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "compressed-tensors"
    assert plan.costs["quantize_s"] > 0
    assert tmp_path in Path(plan.weights).parents
    again = source(tmp_path)
    apply("vllm", "quantization.compressed_tensors", CompressedTensors("W4A16", group_size=64), again, LOADS)
    assert again.weights == plan.weights


def test_an_applier_of_the_engine_reaches_our_optimization(monkeypatch, tmp_path):
    """What an entry point `pytest_llmopt.appliers` named `other.decoding.static_cache` gives."""
    from pytest_llmopt.core.registry import Registry

    mine = applying.Applier(lambda options, plan: setattr(plan, "weights", f"cache of {options.max_cache_len}"))
    known = Registry("appliers", "applier", {"other.decoding.static_cache": mine})
    monkeypatch.setattr(applying, "_appliers", lambda: known)
    plan = source(tmp_path)
    apply("other", "decoding.static_cache", StaticCache(max_cache_len=64), plan)
    assert plan.weights == "cache of 64"
    Variant("m", (Applied("decoding.static_cache", StaticCache()),), engine="other").check()


def test_what_cannot_be_applied_is_refused_with_both_names(tmp_path):
    with pytest.raises(CombinationError, match=r"decoding\.static_cache cannot run on engine 'other'"):
        apply("other", "decoding.static_cache", StaticCache(), source(tmp_path))
