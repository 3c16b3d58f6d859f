"""GPTQ, AWQ and AutoRound by their own libraries: made once, loaded, judged.

Checkpoints are kept in `.llmopt/cache`, keyed by all that decides them, so that only the first run makes them; those of
GPTQ and AWQ are the ones that `make gate` judges.
"""

import copy
import gc
from pathlib import Path

import pytest
from sides import open_side, running_of

from pytest_llmopt.checks.accurate import accurate
from pytest_llmopt.checks.optimized import optimized
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.loading import ZOO, LoadPolicy, fixtures_folder
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.requirements import require
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status

CACHE = Path(__file__).parent.parent.parent / ".llmopt" / "cache"
METHODS = {"gptq": {}, "awq": {}, "auto_round": {"num_prompts": 8, "iters": 10}}
MODEL = "tiny-qwen"
MADE = [*((model, method) for model in ZOO for method in ("gptq", "awq")), (MODEL, "auto_round")]
# GPTQModel makes a temporary folder while loading and leaves it to the garbage collector.
# Choosing the kernel of a checkpoint takes a config beside its own, which Transformers says it merges.
pytestmark = [
    pytest.mark.filterwarnings("ignore:You passed `quantization_config`"),
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def variant(method, model, /, **options):
    name = f"quantization.{method}"
    built = build(Registry("optimizations", "optimization").load(name), name, (), options)
    for requirement in built.requirements:
        if requirement.missing() is not None:
            pytest.skip(requirement.missing())
    require(*built.requirements)
    return Variant(model, (Applied(name, built),), dtype="float32", device="cpu")


def opened(method, model, /, cache=CACHE, **options):
    return open_side(variant(method, model, **options), LoadPolicy(threads=1, cache=cache))


def plain(model):
    return open_side(Variant(model, dtype="float32", device="cpu"), LoadPolicy(threads=1))


@pytest.fixture(scope="module")
def reference():
    return plain(MODEL)


@pytest.fixture(scope="module")
def prompts():
    return PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl").take(64)


@pytest.mark.parametrize(("model", "method"), MADE)
def test_it_is_in_effect_and_accurate_within_its_stated_limits(model, method, prompts):
    engine, reference = opened(method, model, **METHODS[method]), plain(model)
    # AutoRound's own kernel on a CPU has 16 bits only, and its loader turns the whole model to them.
    assert engine.dtype == ("float16" if method == "auto_round" else "float32")
    assert engine.footprint().parameters == reference.footprint().parameters
    for verdict in (optimized(engine, reference, prompts), accurate(engine, reference, prompts)):
        assert verdict.status is Status.PASS, (verdict.evidence, *verdict.diagnosis)


@pytest.mark.parametrize("model", ZOO)
def test_a_checkpoint_of_another_day_loads_and_is_judged_by_what_its_config_says(model, prompts):
    engine, reference = opened("configured", model, checkpoint=f"{model}-gptq"), plain(model)
    for verdict in (optimized(engine, reference, prompts), accurate(engine, reference, prompts)):
        assert verdict.status is Status.PASS, (verdict.evidence, *verdict.diagnosis)


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_was_left_as_it_was_is_found(method, reference, prompts):
    engine = opened(method, MODEL, **METHODS[method])
    full = running_of(reference).loaded.model.get_submodule("model.layers.1.mlp.up_proj")
    running_of(engine).loaded.model.set_submodule(
        "model.layers.1.mlp.up_proj", copy.deepcopy(full).to(running_of(engine).loaded.model.dtype)
    )
    verdict = optimized(engine, reference, prompts)
    assert verdict.status is Status.FAIL
    assert "model.layers.1.mlp.up_proj" in "\n".join(verdict.diagnosis)


def test_the_kernel_that_was_asked_for_runs_from_the_same_checkpoint(reference, prompts):
    engine = opened("gptq", MODEL, backend="torch", **METHODS["gptq"])
    assert {item.kind.partition("[")[0] for item in engine.inspect().body} == {"TorchLinear"}
    assert (
        running_of(engine).loaded.plan.weights
        == running_of(opened("gptq", MODEL, **METHODS["gptq"])).loaded.plan.weights
    )
    assert optimized(engine, reference, prompts).status is Status.PASS


def test_other_widths_orders_and_zero_points_hold_their_promise_too(reference, prompts):
    options = {"bits": 3, "group_size": -1, "desc_act": True, "symmetric": False, "backend": "torch"}
    engine = opened("gptq", MODEL, **METHODS["gptq"] | options)
    for verdict in (optimized(engine, reference, prompts), accurate(engine, reference, prompts)):
        assert verdict.status is Status.PASS, (verdict.evidence, *verdict.diagnosis)


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_says_its_method_and_a_contradiction_is_refused_with_both_sides(method, reference, prompts):
    made = running_of(opened(method, MODEL, **METHODS[method])).loaded.plan.weights
    engine = opened("configured", MODEL, checkpoint=made)
    assert optimized(engine, reference, prompts).status is Status.PASS
    with pytest.raises(OptionError, match=r"group_size=64 is asked for, but .* has group_size=128"):
        opened("configured", MODEL, checkpoint=made, method=method, options=(("group_size", 64),))
    with pytest.raises(OptionError, match=r"quantized\('hqq'\) is asked for, but .* says quant_method="):
        opened("configured", MODEL, checkpoint=made, method="hqq")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gptq", "auto_round"])
def test_quantizing_again_gives_the_same_bytes_and_leaves_no_folder_behind(method, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    weights, few_steps = [], {"iters": 2} if method == "auto_round" else {}
    for name in ("one", "other"):
        engine = opened(method, MODEL, cache=tmp_path / name, num_prompts=2, **few_steps)
        folder = Path(running_of(engine).loaded.plan.weights)
        weights.append({file.name: file.read_bytes() for file in folder.glob("*.safetensors")})
        del engine
    assert weights[0] == weights[1] != {}
    gc.collect()
    assert not list(tmp_path.glob("gptqmodel_*"))
    assert not (tmp_path / "logs").exists()
    assert not [path for path in tmp_path.glob("*/quantized/.*") if path.is_dir()]


def test_a_group_that_does_not_divide_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(OptionError, match=r"group_size=256 does not divide the 128 columns of model\.layers\.0"):
        opened("gptq", MODEL, cache=tmp_path, group_size=256)
    assert not list(tmp_path.rglob("*.safetensors"))
