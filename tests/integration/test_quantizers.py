"""Quantizers, a quantized cache and adapters at work: what they claim is true, and found untrue when it is not."""

import pytest

from pytest_llmopt.core.loading import ZOO, fixtures_folder

pytest.importorskip("torchao")
pytest.importorskip("bitsandbytes")

WORKING = {
    "int4": 'llmopt.quantized("torchao", scheme="int4_weight_only")',
    "intx": 'llmopt.quantized("torchao", scheme="intx_weight_only", bits=3)',
    "float8": 'llmopt.quantized("torchao", scheme="float8_weight_only")',
    "gpu": 'llmopt.quantized("torchao", scheme="float8_dynamic_activation")',
    "hqq": 'llmopt.quantized("hqq", bits=2)',
    "hqq_config": 'llmopt.quantized(config={"quant_method": "hqq", "nbits": 8})',
    "quanto": 'llmopt.quantized("quanto", weights="float8")',
    "hqq_cache": 'llmopt.quantized_cache("hqq", nbits=4)',
    "fp8_cache": 'llmopt.quantized_cache("fp8")',
    "hqq_of_another_width": 'llmopt.quantized("hqq", group_size=48)',
}
ONE_OF_EACH = {
    "bitsandbytes": 'llmopt.quantized("bitsandbytes")',
    "torchao": 'llmopt.quantized("torchao", scheme="int8_weight_only")',
    "hqq": 'llmopt.quantized("hqq", bits=4)',
    "quanto": 'llmopt.quantized("quanto", weights="int8")',
    "config": 'llmopt.quantized(config={"quant_method": "quanto", "weights": "float8"})',
}
SWAPPED = """
import copy

from pytest_llmopt.appliers.transformers.quantization import hqq

given = hqq._quantize


def one_left_out(options, model, device):
    layer = model.model.layers[0].mlp
    plain = copy.deepcopy(layer.down_proj)
    given(options, model, device)
    layer.down_proj = plain


def pytest_configure(config):
    hqq._quantize = one_left_out


def pytest_unconfigure(config):
    hqq._quantize = given
"""


def write(project, variants, check="optimized"):
    entries = "\n".join(f"    {name!r}: {mark}," for name, mark in variants.items())
    project.makepyfile(
        f"from pytest_llmopt import llmopt\n\n\n@llmopt.variants({{\n{entries}\n}})\n"
        "def test_it(candidate, reference, prompts):\n"
        f"    llmopt.assert_{check}(candidate, reference, prompts)\n"
    )


def by_id(records):
    return {record["nodeid"].rpartition("-")[2].rstrip("]"): record for record in records}


@pytest.mark.any_processor
def test_what_is_in_effect_passes_and_what_cannot_run_says_why(project, records):
    for library in ("hqq", "optimum.quanto"):
        pytest.importorskip(library)
    write(project, WORKING)
    project.runpytest_inprocess("--llmopt-model", "tiny-qwen", "--llmopt-device", "cpu")
    found = by_id(records())
    cannot = {"gpu", "hqq_of_another_width"}
    assert {name: found[name]["status"] for name in WORKING if name not in cannot} == {
        name: "PASS" for name in WORKING if name not in cannot
    }
    assert "compute capability >= 8.9" in found["gpu"]["reason"] or found["gpu"]["status"] == "PASS"
    assert "group_size=48 does not divide the 128 columns" in found["hqq_of_another_width"]["reason"]


@pytest.mark.slow
@pytest.mark.near_limit("nf4 costs tiny-qwen nearly what it may, and prompts are taken until that is decided")
@pytest.mark.parametrize("model", ZOO)
def test_every_family_of_models_stays_within_the_stated_limits(project, records, model):
    for library in ("hqq", "optimum.quanto"):
        pytest.importorskip(library)
    write(project, ONE_OF_EACH, "accurate")
    prompts = str(fixtures_folder() / "prompts" / "default.jsonl")
    project.runpytest_inprocess("--llmopt-model", model, "--llmopt-device", "cpu", "--llmopt-prompts", prompts)
    found = {name: record["status"] for name, record in by_id(records()).items()}
    assert found == dict.fromkeys(ONE_OF_EACH, "PASS")


def test_a_layer_that_was_left_out_is_named(project, records):
    pytest.importorskip("hqq")
    project.makeconftest(SWAPPED)
    write(project, {"hqq": 'llmopt.quantized("hqq", bits=8)'})
    project.runpytest_inprocess("--llmopt-model", "tiny-qwen").assert_outcomes(failed=1)
    reason = records()[0]["reason"]
    assert "such as model.layers.0.mlp.down_proj: Linear[Parameter]" in reason


@pytest.fixture
def adapter(tmp_path):
    """A small adapter of random numbers."""
    peft = pytest.importorskip("peft")
    import torch
    from transformers import AutoModelForCausalLM

    from pytest_llmopt.core.loading import locate

    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(locate("tiny-qwen"))
        config = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        model = peft.get_peft_model(base, config)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.02)
    model.save_pretrained(tmp_path / "adapter")
    return str(tmp_path / "adapter")


@pytest.mark.any_processor
def test_an_adapter_is_the_same_merged_or_not_and_a_merge_into_4_bits_is_not(project, records, adapter):
    def lora(**options):
        given = "".join(f", {name}={value}" for name, value in options.items())
        return f"llmopt.lora({adapter!r}{given})"

    nf4 = 'llmopt.quantized("bitsandbytes")'
    pairs = {
        "merged": (lora(merged=True), lora()),
        "qlora": (f"{nf4}, {lora(merged=True, dequantize=True)}", f"{nf4}, {lora(dequantize=True)}"),
        "rounded": (f"{nf4}, {lora(merged=True)}", f"{nf4}, {lora()}"),
    }
    variants = {name: f"[{one}, llmopt.against({other})]" for name, (one, other) in pairs.items()}
    write(project, variants, "equivalent")
    project.runpytest_inprocess("--llmopt-model", "tiny-qwen")
    found = {name: record["status"] for name, record in by_id(records()).items()}
    assert found == {"merged": "PASS", "qlora": "PASS", "rounded": "FAIL"}


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-gemma"])
def test_a_trained_adapter_over_4_bits_is_the_same_once_merged_at_full_width(project, records, model):
    nf4, adapter = 'llmopt.quantized("bitsandbytes")', '"{model}-lora", dequantize=True'
    merged = f"[{nf4}, llmopt.lora({adapter}, merged=True), llmopt.against({nf4}, llmopt.lora({adapter}))]"
    write(project, {"qlora": merged}, "equivalent")
    project.runpytest_inprocess("--llmopt-model", model)
    assert [record["status"] for record in records()] == ["PASS"]


def test_an_adapter_that_changes_nothing_is_refused(project, records, adapter):
    from pathlib import Path

    from safetensors.torch import load_file, save_file

    file = Path(adapter) / "adapter_model.safetensors"
    save_file({name: part * ("lora_A" in name) for name, part in load_file(file).items()}, file)
    write(project, {"zero": f"[llmopt.lora({adapter!r})]"})
    project.runpytest_inprocess("--llmopt-model", "tiny-qwen").assert_outcomes(errors=1)
    assert "changes nothing: 28 layers have it" in records()[0]["reason"]
