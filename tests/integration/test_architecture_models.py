"""The builder of tiny random models: each kind of decoder can be saved, loaded and felt in its every part."""

import importlib
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="pip install 'pytest-llmopt[transformers]'")
pytest.importorskip("transformers", reason="pip install 'pytest-llmopt[transformers]'")

FOLDER = Path(__file__).parents[2] / "benchmarks" / "architectures"
KINDS = {
    "gpt_neox": "fused QKV, and attention beside the MLP",
    "gpt_bigcode": "one key for all heads",
    "bloom": "ALiBi",
    "opt": "learned positions",
    "olmo": "norms without weights",
    "gemma3_text": "windows, and norms applied as 1 + weight",
    "mixtral": "experts",
    "deepseek_v3": "latent attention",
    "mamba": "a state instead of a cache",
    "jamba": "state space and attention in turns",
    "bert": "an encoder made causal",
    "bart": "the decoder of an encoder-decoder",
}

UNFELT = re.compile(r"(key|k_proj)\.bias$|encoder_attn")
"""A softmax does not see what all keys share, and a decoder alone has no encoder to attend to."""


@pytest.fixture
def models(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("models")
    for name in ("models", "sight", "sizes", "weights"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("model_type", KINDS)
def test_a_copy_loads_as_it_was_saved_and_is_no_flat_model(models, tmp_path, model_type):
    sight = models.build(model_type, tmp_path, seed=0)
    assert (tmp_path / "tokenizer.json").exists()
    assert sight.reload_error < 1e-3
    assert sight.is_causal
    assert 3 < sight.entropy < 6  # nats; 6.9 would be flat
    assert [name for name in sight.unfelt if not UNFELT.search(name)] == []


def test_every_causal_type_is_built_or_left_out_for_a_reason(models):
    known = set(importlib.import_module("transformers.models.auto.modeling_auto").MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    sizes = importlib.import_module("sizes")
    assert set(models.catalogue()) == known - set(sizes.LEFT_OUT)
    assert all(len(reason) > 20 for reason in sizes.LEFT_OUT.values())


def test_another_seed_is_another_model(models, tmp_path):
    for seed in (0, 1):
        models.build("llama", tmp_path / str(seed), seed)
    files = [(tmp_path / str(seed) / "model.safetensors").read_bytes() for seed in (0, 1)]
    assert files[0] != files[1]
    models.build("llama", tmp_path / "again", 0)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == files[0]


def test_an_unknown_type_is_named(models, tmp_path):
    with pytest.raises(ValueError, match="no model type gpt5"):
        models.build("gpt5", tmp_path, seed=0)
