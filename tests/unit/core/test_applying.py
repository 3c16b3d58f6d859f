"""An engine applies our optimizations without their knowing it, and an optimization of others reaches our engines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from pytest_llmopt import Promise
from pytest_llmopt.core import applying
from pytest_llmopt.core.applying import Applier, ModelSource, Produced, apply, apply_inherited, can_apply
from pytest_llmopt.core.errors import CombinationError, ModelError, OptionError
from pytest_llmopt.core.loading import LoadPolicy, locate
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.optimizations.decoding.static_cache import StaticCache
from pytest_llmopt.optimizations.quantization.auto_round import AutoRound
from pytest_llmopt.optimizations.quantization.awq import Awq
from pytest_llmopt.optimizations.quantization.compressed_tensors import CompressedTensors
from pytest_llmopt.optimizations.quantization.configured import Configured
from pytest_llmopt.optimizations.quantization.gguf import Gguf
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


CONFIGURED = "quantization.configured"


@pytest.fixture
def quantized(tmp_path):
    """A checkpoint, as far as its config says."""
    folder = tmp_path / "quantized"
    folder.mkdir()
    config = {"quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": False, "sym": True}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": config}))
    return str(folder)


@pytest.mark.parametrize("method", ["gptq", ""])
def test_a_checkpoint_that_is_named_is_loaded_as_one_that_is_produced(tmp_path, quantized, method):
    options, plan = Configured(checkpoint=quantized, method=method), source(tmp_path)
    Variant("m", (Applied(CONFIGURED, options),), engine="vllm").check(LOADS)
    apply("vllm", CONFIGURED, options, plan, LOADS)
    assert plan.weights == quantized
    assert plan.costs == {}
    assert not can_apply("vllm", CONFIGURED, options, {"quantization.awq"})


def test_a_checkpoint_that_is_named_must_be_what_is_expected(tmp_path, quantized):
    other = Configured(checkpoint=quantized, method="awq")
    with pytest.raises(OptionError, match="says quant_method='gptq'"):
        apply("vllm", CONFIGURED, other, source(tmp_path), LOADS)


def test_a_config_to_quantize_with_is_no_checkpoint(quantized):
    config = {"quant_method": "gptq", "bits": 4}
    assert not can_apply("vllm", CONFIGURED, Configured(config=config), LOADS)
    assert not can_apply("vllm", CONFIGURED, Configured(checkpoint=quantized, config=config), LOADS)
    assert not can_apply("vllm", CONFIGURED, Configured(), LOADS)


def test_a_checkpoint_that_is_not_here_is_told_as_that_and_not_as_a_wrong_engine(tmp_path):
    absent = Configured(checkpoint=str(tmp_path / "absent"))
    assert can_apply("vllm", CONFIGURED, absent, LOADS)
    with pytest.raises(ModelError, match="absent"):
        apply("vllm", CONFIGURED, absent, source(tmp_path), LOADS)


def test_a_gguf_file_is_named_to_the_engine_the_one_that_is_given_first_of_all(tmp_path):
    """And not written anew beside the one that is given, which the test would then not be about."""
    pytest.importorskip("gguf")
    written, given = source(tmp_path), source(tmp_path)
    apply("llama_cpp", "quantization.gguf", Gguf(quant_type="Q4_0"), written, {"quantization.gguf"})
    file = Path(written.weights, written.weights_file)
    assert file.is_file()
    assert written.costs["quantize_s"] > 0
    own = tmp_path / "own" / "mine.gguf"
    own.parent.mkdir()
    own.write_bytes(file.read_bytes())
    apply("llama_cpp", "quantization.gguf", Gguf(file=str(own)), given, {"quantization.gguf"})
    assert (given.weights, given.weights_file) == (str(own.parent), "mine.gguf")
    assert given.costs == {}


@dataclass(frozen=True)
class ByTheirTool:
    """Of another package: writes checkpoints of a method that engines know, and derives from nothing of ours."""

    promise: ClassVar[Promise] = Promise.ACCURATE
    produces: ClassVar[tuple[str, ...]] = ("quantization.gptq",)

    def produce(self, _source):
        return Produced("theirs", {"quantize_s": 1.0})


def test_a_producer_of_others_says_whose_checkpoints_it_makes(tmp_path):
    plan = source(tmp_path)
    apply("vllm", "x.by_their_tool", ByTheirTool(), plan, LOADS)
    assert plan.weights == "theirs"
    assert plan.costs == {"quantize_s": 1.0}
    assert not can_apply("vllm", "x.by_their_tool", ByTheirTool(), {"quantization.awq"})


def test_an_engine_brings_appliers_of_its_own(tmp_path):
    """In the one file of the engine, so that one of a conftest has them too."""
    mine = {"decoding.static_cache": Applier(lambda options, plan: setattr(plan, "weights", options.max_cache_len))}
    for options in (StaticCache(max_cache_len=64), AsItsBase(max_cache_len=64)):
        plan = source(tmp_path)
        Variant("m", (Applied("x.mine", options),), engine="other").check(appliers=mine)
        apply("other", "x.mine", options, plan, appliers=mine)
        assert plan.weights == 64
    assert not can_apply("other", "x.of_others", OfOthers(), appliers=mine)


def test_an_applier_of_the_engine_comes_before_the_produced_checkpoint(tmp_path):
    mine = {"quantization.gptq": Applier(lambda _, plan: setattr(plan, "weights", "by the engine"))}
    plan = source(tmp_path)
    apply("vllm", "quantization.gptq", Gptq(), plan, LOADS, mine)
    assert plan.weights == "by the engine"
