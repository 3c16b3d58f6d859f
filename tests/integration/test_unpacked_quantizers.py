"""compressed-tensors, GGUF and fine-grained FP8 on a CPU: small files, unpacked in memory, judged for real."""

import json
from pathlib import Path

import pytest
import torch
from sides import open_side, running_of

from pytest_llmopt.checks.accurate import accurate
from pytest_llmopt.checks.optimized import optimized
from pytest_llmopt.core.errors import LlmoptError, ModelError, OptionError
from pytest_llmopt.core.loading import ZOO, LoadPolicy, fixtures_folder, locate
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.requests import SaveCheckpoint
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status
from pytest_llmopt.optimizations.quantization._unpacked import body_of

pytest.importorskip("compressed_tensors")
pytest.importorskip("gguf")

OPTIMIZATIONS = Registry("optimizations", "optimization")
PROMPTS = PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl")
EVERY_FAMILY = [
    ("compressed_tensors", {"scheme": "W8A8"}),
    ("compressed_tensors", {"scheme": "W4A16"}),
    ("gguf", {"quant_type": "Q8_0"}),
    ("gguf", {"quant_type": "Q4_0"}),
]
ONE_FAMILY = [
    ("compressed_tensors", {"scheme": "W8A16", "group_size": 32}),
    ("compressed_tensors", {"scheme": "W8A16", "format": "int-quantized"}),
    ("compressed_tensors", {"scheme": "W8A8", "format": "dense"}),
    ("compressed_tensors", {"scheme": "W8A8", "format": "naive-quantized"}),
    ("compressed_tensors", {"scheme": "FP8_DYNAMIC"}),
    ("gguf", {"quant_type": "Q5_1"}),
    ("gguf", {"quant_type": "MXFP4"}),
]
CLOSE = [{"scheme": "FP8_DYNAMIC"}, {"scheme": "W4A16"}]
"""What 32 prompts would judge too near its limit for the roundings of every processor."""


def named(name, options):
    full = f"quantization.{name}"
    return Applied(full, build(OPTIMIZATIONS.load(full), full, (), options))


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A function that opens a model, with what is made for it in one cache folder; references are opened once."""
    kept = {}
    policy = LoadPolicy(threads=1, cache=tmp_path_factory.getbasetemp() / "cache")

    def open_(model, name=None, **options):
        if name is None and model in kept:
            return kept[model]
        applied = () if name is None else (named(name, options),)
        loaded = open_side(Variant(model, applied, dtype="float32", device="cpu"), policy)
        return kept.setdefault(model, loaded) if name is None else loaded

    return open_


@pytest.mark.any_processor
@pytest.mark.parametrize(
    ("model", "name", "options"),
    [(model, *case) for model in ZOO for case in EVERY_FAMILY] + [(ZOO[0], *case) for case in ONE_FAMILY],
)
def test_it_is_accurate_and_in_effect(opened, model, name, options):
    candidate, reference = opened(model, name, **options), opened(model)
    close = accurate(candidate, reference, PROMPTS, num_prompts=96 if options in CLOSE else 32)
    for verdict in (close, optimized(candidate, reference, PROMPTS)):
        assert verdict.status is Status.PASS, verdict


@pytest.mark.parametrize(("name", "options"), [EVERY_FAMILY[0], EVERY_FAMILY[2]])
def test_weights_that_are_not_those_of_the_file_are_found(opened, name, options):
    candidate, reference = opened(ZOO[0], name, **options), opened(ZOO[0])
    model = running_of(candidate).loaded.model
    candidate.encode("a")
    module = next(iter(body_of(model).values()))
    candidate.inspect()  # what is packed is unpacked in the first forward pass
    with torch.no_grad():
        module.weight.mul_(1.0003)
    verdict = optimized(candidate, reference, PROMPTS)
    assert verdict.status is Status.FAIL
    assert "no values of the format" in " ".join(verdict.diagnosis)


@pytest.mark.parametrize(
    ("name", "options", "pieces"),
    [
        ("compressed_tensors", {"scheme": "W3A3"}, ["'W3A3'", "W8A8"]),
        ("compressed_tensors", {"scheme": "W8A8", "group_size": 32}, ["group_size=32", "'W8A8'"]),
        ("compressed_tensors", {"scheme": "W4A16", "format": "float-quantized"}, ["float-quantized", "pack-quantized"]),
        ("compressed_tensors", {"calibration": "x.jsonl"}, ["calibration", "FP8"]),
        ("gguf", {"quant_type": "Q4_K"}, ["'Q4_K'", "Q4_0"]),
        ("gguf", {"file": "nowhere.gguf"}, ["nowhere.gguf"]),
    ],
)
def test_an_option_that_is_not_possible_is_refused_with_both_sides(name, options, pieces):
    with pytest.raises(OptionError) as raised:
        named(name, options)
    assert all(piece in str(raised.value) for piece in pieces)


def test_a_group_that_does_not_divide_the_columns_is_refused_before_quantizing(opened):
    with pytest.raises(OptionError, match=r"group_size=256 does not divide the 128 columns of model\.layers\.0"):
        opened("tiny-qwen", "compressed_tensors", scheme="W4A16", group_size=256)


def test_a_checkpoint_says_its_own_scheme_and_a_wrong_one_is_refused(opened, tmp_path_factory):
    opened(ZOO[0], "compressed_tensors", scheme="W4A16")
    folders = (tmp_path_factory.getbasetemp() / "cache" / "quantized").glob("tiny-llama-compressed_tensors-*/")
    folder = next(item for item in folders if item.is_dir() and '"num_bits": 4' in (item / "config.json").read_text())
    candidate = opened(ZOO[0], "configured", checkpoint=str(folder), method="compressed_tensors")
    assert optimized(candidate, opened(ZOO[0]), PROMPTS).status is Status.PASS
    with pytest.raises(OptionError, match=r"scheme='W8A8' is asked for.*scheme='W4A16'"):
        opened(
            ZOO[0],
            "configured",
            checkpoint=str(folder),
            method="compressed_tensors",
            options=(("scheme", "W8A8"),),
        )


def test_what_was_saved_is_loaded_and_not_quantized_again(opened, tmp_path):
    first = opened(ZOO[0], "compressed_tensors", scheme="W4A16")
    first.ask(SaveCheckpoint(str(tmp_path)))
    again = opened(str(tmp_path), "compressed_tensors", scheme="W4A16")
    tokens = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.equal(running_of(first).loaded.model(tokens).logits, running_of(again).loaded.model(tokens).logits)
    with pytest.raises(OptionError, match=r"quantized\('gguf'\) is asked for.*quant_method='compressed_tensors'"):
        opened(str(tmp_path), "gguf", quant_type="Q4_0")


def test_a_gguf_file_says_its_own_type(opened, tmp_path_factory):
    opened(ZOO[0], "gguf", quant_type="Q4_0")
    files = (tmp_path_factory.getbasetemp() / "cache" / "quantized").glob("tiny-llama-gguf-*/model.gguf")
    file = next(item for item in files if named("gguf", {"file": str(item)}).options._type == "Q4_0")
    candidate = opened(ZOO[0], "gguf", file=str(file))
    assert optimized(candidate, opened(ZOO[0]), PROMPTS).status is Status.PASS
    with pytest.raises(LlmoptError, match=r"'Q8_0' is asked for, but most of .* is Q4_0"):
        opened(ZOO[0], "gguf", file=str(file), quant_type="Q8_0")


@pytest.fixture(scope="module")
def fp8_checkpoint(opened, tmp_path_factory):
    """The first model in float8, with a scale for each block of 128 x 128."""
    from safetensors.torch import save_file

    folder, block, tensors = tmp_path_factory.mktemp("fp8"), 128, {}
    state = running_of(opened(ZOO[0])).loaded.model.state_dict()
    for name, weight in state.items():
        if not name.endswith("proj.weight"):
            tensors |= {} if name == "lm_head.weight" else {name: weight.clone()}
            continue
        rows, columns = weight.shape
        filled = torch.nn.functional.pad(weight, (0, -columns % block, 0, -rows % block))
        blocks = filled.unflatten(0, (-1, block)).unflatten(2, (-1, block))
        scale = blocks.abs().amax((1, 3)) / 448
        codes = (blocks / scale[:, None, :, None]).reshape(filled.shape)[:rows, :columns]
        tensors |= {name: codes.to(torch.float8_e4m3fn).contiguous(), f"{name}_scale_inv": scale}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads(Path(locate(ZOO[0]), "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [block, block]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_checkpoint_in_fp8_is_unpacked_on_a_cpu(opened, fp8_checkpoint):
    options = {"checkpoint": str(fp8_checkpoint), "method": "fp8", "options": (("dequantize", True),)}
    candidate, reference = opened(ZOO[0], "configured", **options), opened(ZOO[0])
    assert optimized(candidate, reference, PROMPTS).status is Status.PASS
    with torch.no_grad():
        next(iter(body_of(running_of(candidate).loaded.model).values())).weight.mul_(1.0003)
    assert optimized(candidate, reference, PROMPTS).status is Status.FAIL


def test_a_checkpoint_that_is_not_whole_is_refused(opened, tmp_path):
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "compressed-tensors"}}')
    with pytest.raises((ModelError, OptionError)):
        opened(ZOO[0], "configured", checkpoint=str(tmp_path))
