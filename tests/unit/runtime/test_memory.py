"""What a variant will want is estimated from its local weights, before anything is loaded."""

import json

import pytest

from pytest_llmopt.core.loading import ZOO, locate
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.runtime.memory import available_bytes, least_bytes, wanted_bytes, weight_bytes


def test_there_is_some_memory_here():
    assert available_bytes() > 2**20


@pytest.mark.parametrize("model", ZOO)
def test_a_zoo_model_wants_more_than_its_weights_and_float32_twice_of_it(model):
    in_16_bits = wanted_bytes(Variant(model, dtype="bfloat16"))
    assert in_16_bits > 2**20
    assert wanted_bytes(Variant(model, dtype="float32")) == pytest.approx(2 * in_16_bits, abs=2)
    assert wanted_bytes(Variant(locate(model), dtype="bfloat16")) == in_16_bits


def test_a_model_that_is_not_local_wants_nothing_that_could_be_known():
    assert wanted_bytes(Variant("org/model")) == 0


def checkpoint(folder, name, tensors):
    """A safetensors file with a header and no more: what is to be loaded is known from there."""
    header, at = {}, 0
    for key, (dtype, shape, size) in tensors.items():
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    (folder / name).write_bytes(len(text).to_bytes(8, "little") + text + bytes(at))


SIXTEEN = {"w": ("BF16", [10, 10], 200)}


@pytest.mark.parametrize(
    ("dtype", "stored", "expected"),
    [
        ("bfloat16", SIXTEEN, 200),
        ("float32", SIXTEEN, 400),
        ("float64", SIXTEEN, 800),
        ("bfloat16", {"w": ("F32", [10, 10], 400)}, 200),
        ("float32", {"w": ("F32", [10, 10], 400)}, 400),
        # Codes stay what they are; scales are numbers.
        ("float32", {"w": ("U8", [10, 10], 100), "scale": ("BF16", [10], 20)}, 140),
        ("bfloat16", {"w": ("F8_E4M3", [10, 10], 100)}, 100),
    ],
)
def test_weights_are_sized_by_what_the_checkpoint_holds(tmp_path, dtype, stored, expected):
    checkpoint(tmp_path, "model.safetensors", stored)
    assert weight_bytes(Variant(str(tmp_path), dtype=dtype, device="cpu")) == expected


def test_auto_is_float32_on_a_processor_and_the_dtype_of_the_checkpoint_on_a_gpu(tmp_path):
    checkpoint(tmp_path, "model.safetensors", SIXTEEN)
    assert weight_bytes(Variant(str(tmp_path), device="cpu")) == 400
    assert weight_bytes(Variant(str(tmp_path), device="cuda")) == 200, "nothing is known but what is stored"
    (tmp_path / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    assert weight_bytes(Variant(str(tmp_path), device="cuda")) == 200
    (tmp_path / "config.json").write_text(json.dumps({"torch_dtype": "float32"}))
    assert weight_bytes(Variant(str(tmp_path), device="cuda")) == 400


def test_shards_count_together_and_a_second_copy_beside_them_does_not(tmp_path):
    for number in (1, 2):
        checkpoint(tmp_path, f"model-0000{number}-of-00002.safetensors", SIXTEEN)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    checkpoint(tmp_path, "consolidated.safetensors", SIXTEEN)
    variant = Variant(str(tmp_path), dtype="bfloat16", device="cpu")
    assert weight_bytes(variant) == least_bytes(variant) == 400
    assert wanted_bytes(variant) == 600


@pytest.mark.parametrize("content", [b"", b"x" * 100, (50).to_bytes(8, "little") + b"{" * 50])
def test_a_file_without_a_header_is_sized_as_if_it_held_16_bits(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    assert weight_bytes(Variant(str(tmp_path), dtype="float32", device="cpu")) == 2 * len(content)
