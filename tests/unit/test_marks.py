"""From the markers of a test to the two variants that it compares; what is wrong with a marker is said."""

import pytest

from pytest_llmopt import llmopt
from pytest_llmopt.core.budget import Budget
from pytest_llmopt.core.errors import CombinationError, LlmoptError, OptionError, UnknownNameError
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.requirements import Cuda
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.markers import Marks, compare, gpu_requirement, marker_names
from pytest_llmopt.names import MARKERS, own_markers
from pytest_llmopt.options import Settings

OPTIMIZATIONS = Registry("optimizations", "optimization")
ENGINES = Registry("engines", "engine", {"other": object()})
PLAIN = Variant("tiny-llama")


def marks_of(*decorators):
    """Markers as pytest gives them: those of the function first, then of its class, then of its module."""
    return Marks.of([decorator.mark for decorator in decorators], OPTIMIZATIONS)


def comparison(*decorators, command_line=None, ini=None):
    return compare(marks_of(*decorators), "tiny-llama", Settings(command_line or {}, ini or {}), OPTIMIZATIONS, ENGINES)


def candidate(*decorators):
    return comparison(*decorators).candidate


# Which markers are ours


def test_markers_of_others_are_left_alone():
    assert marks_of(pytest.mark.skip, pytest.mark.parametrize("a", [1])) == Marks()


def test_an_unknown_marker_of_ours_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown marker 'statik_cache'; did you mean 'static_cache'\?"):
        Marks.of([pytest.Mark("llmopt_statik_cache", (), {}, _ispytest=True)], OPTIMIZATIONS)


def test_every_optimization_but_quantizers_has_a_marker_of_its_own_name():
    names = marker_names(OPTIMIZATIONS)
    assert names["static_cache"] == "decoding.static_cache"
    assert names["attention"] == "kernels.attention"
    assert not any(name.startswith("quantization.") for name in names.values())
    assert not set(names) & set(MARKERS)


def test_the_names_that_pytest_knows_from_the_start_are_those_of_the_registry():
    assert own_markers() == marker_names(OPTIMIZATIONS)


def test_without_markers_both_sides_are_the_plain_model():
    found = comparison()
    assert found.candidate == found.reference == PLAIN
    assert (found.requirements, found.budget) == ((), None)


# Optimizations


def test_names_beside_the_model_under_test_follow_it():
    adapter, checkpoint = llmopt.lora("{model}-lora"), llmopt.quantized(checkpoint="{model}-gptq")
    found = comparison(checkpoint, adapter, llmopt.assisted("{model}-draft"), llmopt.against(adapter, model="other"))
    named = {item.short_name: item.options for item in found.candidate.optimizations}
    assert named["configured"].checkpoint == "tiny-llama-gptq"
    assert named["lora"].adapter == "tiny-llama-lora"
    assert named["assisted"].draft == "tiny-llama-draft"
    assert found.reference.optimizations[0].options.adapter == "other-lora"


def test_markers_stack_with_quantizers_first_whatever_their_order():
    stacked = [llmopt.static_cache(compile=True), llmopt.attention("eager"), llmopt.quantized("torchao")]
    names = ["quantization.torchao", "kernels.attention", "decoding.static_cache"]
    for order in (stacked, stacked[::-1]):
        assert [item.name for item in candidate(*order).optimizations] == names


def test_options_of_a_marker_reach_the_optimization():
    (applied,) = candidate(llmopt.quantized("bitsandbytes", 8, threshold=5.0)).optimizations
    assert (applied.options.bits, applied.options.threshold) == (8, 5.0)


def test_the_same_optimization_twice_is_refused():
    with pytest.raises(CombinationError, match="stacked twice"):
        candidate(llmopt.static_cache(compile=True), llmopt.static_cache(max_cache_len=9))


def test_any_optimization_can_be_applied_by_its_full_name():
    assert candidate(llmopt.optimization("kernels.attention", "eager")) == candidate(llmopt.attention("eager"))


@pytest.mark.parametrize(
    ("marker", "error", "message"),
    [
        (llmopt.quantized("torchaoo"), UnknownNameError, r"quantization method 'torchaoo'; did you mean 'torchao'\?"),
        (llmopt.quantized(), OptionError, "quantized needs a name as its first argument"),
        (llmopt.optimization(), OptionError, "optimization needs a name"),
        (llmopt.optimization("decoding.nope"), UnknownNameError, r"unknown optimization 'decoding\.nope'"),
        (llmopt.static_cache(compiled=True), OptionError, r"has no option 'compiled'; did you mean 'compile'\?"),
        (llmopt.quantized("bitsandbytes", bits=3), OptionError, r"quantization\.bitsandbytes: bits=3 is not possible"),
        (llmopt.engine(), OptionError, "engine needs a name"),
        (llmopt.engine("othr"), UnknownNameError, r"unknown engine 'othr'; did you mean 'other'\?"),
    ],
)
def test_a_wrong_marker_is_refused(marker, error, message):
    with pytest.raises(error, match=message):
        comparison(marker)


def test_optimizations_that_cannot_be_combined_are_refused():
    with pytest.raises(CombinationError, match="does not rewind a static one"):
        comparison(llmopt.static_cache(), llmopt.prompt_lookup())


def test_an_engine_that_cannot_apply_an_optimization_is_refused():
    with pytest.raises(CombinationError, match="cannot run on engine 'other'; it can on: transformers"):
        comparison(llmopt.engine("other"), llmopt.static_cache())


# Engine


def test_the_engine_marker_holds_for_both_sides_and_the_closest_one_counts():
    found = comparison(llmopt.engine("other"), llmopt.engine("transformers"))
    assert (found.candidate.engine, found.reference.engine) == ("other", "other")


def test_the_command_line_wins_over_the_engine_marker_and_the_marker_over_the_ini():
    marker = llmopt.engine("other")
    assert comparison(marker, command_line={"engine": "transformers"}).candidate.engine == "transformers"
    assert comparison(marker, ini={"engine": "transformers"}).candidate.engine == "other"


def test_dtype_and_device_come_from_the_settings():
    found = comparison(command_line={"dtype": "bfloat16"}, ini={"device": "cpu"})
    assert found.candidate == found.reference == Variant("tiny-llama", (), "bfloat16", "cpu")


# Against


def test_against_describes_the_reference_and_leaves_the_candidate():
    found = comparison(llmopt.static_cache(compile=True), llmopt.against(llmopt.static_cache()))
    assert found.reference.label == "static_cache"
    assert found.candidate.label == "static_cache(compile=True)"


def test_against_overrides_model_dtype_device_and_engine():
    changed = {"model": "tiny-qwen", "dtype": "float64", "device": "cpu", "engine": "other"}
    found = comparison(llmopt.against(**changed))
    assert found.reference == Variant(optimizations=(), **changed)
    assert found.candidate == PLAIN


def test_against_takes_optimizations_and_overrides_together():
    found = comparison(llmopt.against(llmopt.attention("eager"), llmopt.quantized("torchao"), dtype="float64"))
    assert found.reference.label == "torchao(scheme=int8_weight_only) + attention(implementation=eager)"
    assert found.reference.dtype == "float64"


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (llmopt.against("eager"), r"against takes optimizations such as llmopt\.attention\('eager'\), got 'eager'"),
        (llmopt.against(dtpe="float64"), "against takes optimizations and model=, dtype=, device=, engine=; got dtpe"),
        (llmopt.against(dtype="int3"), "dtype 'int3' is not possible"),
        (llmopt.against(llmopt.budget(ttft_ms=1)), "unknown optimization 'budget'"),
        (llmopt.against(pytest.mark.skip), "unknown optimization 'skip'"),
        (llmopt.against(llmopt.assisted(), llmopt.prompt_lookup()), "a step takes its drafts from one source"),
    ],
)
def test_a_wrong_reference_is_refused(marker, message):
    with pytest.raises(LlmoptError, match=message):
        comparison(marker)


def test_a_reference_on_an_unknown_engine_is_refused():
    with pytest.raises(UnknownNameError, match="unknown engine 'nope'"):
        comparison(llmopt.against(engine="nope"))


# Requirements and budget


def test_a_test_needs_what_both_sides_and_the_gpu_marker_need():
    found = comparison(llmopt.gpu, llmopt.quantized("torchao"), llmopt.against(llmopt.quantized("bitsandbytes")))
    assert [requirement.name for requirement in found.requirements] == ["gpu", "torchao", "bitsandbytes"]


@pytest.mark.parametrize(
    ("marker", "requirement"),
    [
        (llmopt.gpu, Cuda()),
        (llmopt.gpu(), Cuda()),
        (llmopt.gpu(memory="6 GiB", count=2), Cuda(memory=6 * 2**30, count=2)),
        (llmopt.gpu(memory=1024), Cuda(memory=1024)),
        (llmopt.gpu(capability="8.9"), Cuda(capability=(8, 9))),
        (llmopt.gpu(capability=8.6), Cuda(capability=(8, 6))),
        (llmopt.gpu(capability=9), Cuda(capability=(9, 0))),
        (llmopt.gpu(capability=(9, 0)), Cuda(capability=(9, 0))),
    ],
)
def test_the_gpu_marker_says_memory_capability_and_count(marker, requirement):
    assert gpu_requirement(marks_of(marker)) == (requirement,)


def test_the_closest_gpu_marker_counts():
    assert gpu_requirement(marks_of(llmopt.gpu(count=2), llmopt.gpu(count=4))) == (Cuda(count=2),)
    assert gpu_requirement(marks_of()) == ()


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (llmopt.gpu(memroy="1 GiB"), r"gpu takes memory=, capability=, count=; got \['memroy'\]"),
        (llmopt.gpu("1 GiB"), r"gpu takes .*; got \['1 GiB'\]"),
        (llmopt.gpu(memory="much"), "'much' is not a size"),
        (llmopt.gpu(memory=0), r"memory=0 is not possible; give a size"),
        *(
            (llmopt.gpu(capability=value), r"is not possible; give a compute capability such as 8\.0")
            for value in ("ampere", "9.0a", (8,), (8, "0"), None, -8)
        ),
    ],
)
def test_a_wrong_gpu_marker_is_refused(marker, message):
    with pytest.raises(OptionError, match=message):
        gpu_requirement(marks_of(marker))


@pytest.mark.parametrize("count", ["two", None, 0, -1, 1.5])
def test_a_gpu_count_that_is_no_count_is_refused(count):
    with pytest.raises(OptionError, match="count"):
        gpu_requirement(marks_of(llmopt.gpu(count=count)))


def test_the_closest_budget_marker_gives_the_budget():
    found = comparison(llmopt.budget(decode_speedup=1.5, weight_memory="1 KiB"), llmopt.budget(ttft_ms=80))
    assert found.budget == Budget(decode_speedup=1.5, weight_memory=1024)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (llmopt.budget(decode_speed=2), r"budget has no option 'decode_speed'; did you mean 'decode_speedup'\?"),
        (llmopt.budget(decode_speedup=0), "budget: decode_speedup=0 is not possible; give a finite number above 0"),
        (llmopt.budget(weight_memory="much"), "budget: 'much' is not a size"),
        (llmopt.budget(weight_memory=[2]), "budget: "),
        (llmopt.budget(1, decode_speedup=2), "budget got 'decode_speedup' twice"),
    ],
)
def test_a_wrong_budget_is_refused(marker, message):
    with pytest.raises(OptionError, match=message):
        comparison(marker)
