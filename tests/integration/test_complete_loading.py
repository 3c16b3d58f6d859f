"""A PASS is of this model, fully loaded: what is missing, left over or of another kind refuses the load, with names."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from sides import open_side, running_of

from pytest_llmopt.core.errors import ModelError
from pytest_llmopt.core.loading import LoadPolicy, locate
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.requests import SaveCheckpoint
from pytest_llmopt.core.variant import Applied, Variant

pytestmark = pytest.mark.filterwarnings("ignore")


def opened(model, *optimizations, policy=None, dtype="auto"):
    """An engine of a model with optimizations, each a name with its options."""
    registry = Registry("optimizations", "optimization")
    applied = tuple(Applied(name, registry.load(name)(**options)) for name, options in optimizations)
    variant = Variant(str(model), applied, device="cpu", dtype=dtype)
    return open_side(variant, policy or LoadPolicy(threads=1))


def copy_of(model, folder, *, tensors=None, config=None):
    """A folder with a model of the zoo whose tensors or configuration are changed."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(locate(model), folder)
    if tensors is not None:
        file = folder / "model.safetensors"
        save_file({name: value.clone() for name, value in tensors(load_file(file)).items()}, file, {"format": "pt"})
    if config is not None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


def without(*parts):
    return lambda tensors: {name: value for name, value in tensors.items() if not any(part in name for part in parts)}


def renamed(change):
    return lambda tensors: {change(name): value for name, value in tensors.items()}


def cut(name):
    return lambda tensors: tensors | {name: tensors[name][:100]}


def with_one_more(tensors):
    return tensors | {"model.layers.0.self_attn.q_proj.bias": tensors["model.norm.weight"]}


INCOMPLETE = {
    "all names wrong": ("tiny-llama", renamed("transformer.{}".format), {}, ("39 are missing", "38 are in the check")),
    "one layer under another name": (
        *("tiny-llama", renamed(lambda name: name.replace("layers.3", "layers.7")), {}),
        ("9 are missing", "model.layers.3", "model.layers.7"),
    ),
    "two layers too few": ("tiny-llama", None, {"num_hidden_layers": 2}, ("18 are in the checkpoint", "layers.2")),
    "two layers too many": ("tiny-llama", None, {"num_hidden_layers": 6}, ("18 are missing", "layers.4")),
    "a norm is missing": ("tiny-gemma", without("model.norm"), {}, ("1 is missing", "model.norm.weight")),
    "biases are missing": ("tiny-qwen", without("q_proj.bias"), {}, ("4 are missing", "q_proj.bias")),
    "a bias too many": ("tiny-llama", with_one_more, {}, ("1 is in the checkpoint", "q_proj.bias")),
    "an untied head is missing": ("tiny-qwen", without("lm_head"), {}, ("1 is missing", "lm_head.weight")),
    "a tied head untied": ("tiny-llama", None, {"tie_word_embeddings": False}, ("1 is missing", "lm_head.weight")),
    "another shape": (
        *("tiny-llama", cut("model.layers.1.mlp.up_proj.weight"), {}),
        ("1 is of another shape", "model.layers.1.mlp.up_proj.weight [100, 256] for [512, 256]"),
    ),
}


@pytest.mark.parametrize("case", INCOMPLETE)
def test_what_is_missing_or_left_over_refuses_the_load_with_its_names(tmp_path, case):
    model, tensors, config, expected = INCOMPLETE[case]
    folder = copy_of(model, tmp_path / "model", tensors=tensors, config=config)
    with pytest.raises(ModelError) as raised:
        opened(folder)
    for piece in (*expected, str(folder), "export it again"):
        assert piece in str(raised.value)


LEGITIMATE = {
    "as it is": ("tiny-llama", None, ()),
    "a tied head is not stored": ("tiny-gemma", without("lm_head"), ()),
    "names without the prefix of the base model": ("tiny-llama", renamed(lambda name: name.removeprefix("model.")), ()),
    "frequencies of an old checkpoint": (
        *("tiny-llama", lambda tensors: tensors | {OLD: tensors["model.norm.weight"]}),
        ("model.layers.0.self_attn.rotary_emb.inv_freq",),
    ),
}
OLD = "model.layers.0.self_attn.rotary_emb.inv_freq"


@pytest.mark.parametrize("case", LEGITIMATE)
def test_what_an_architecture_may_lack_is_loaded_and_reported(tmp_path, case):
    model, tensors, excused = LEGITIMATE[case]
    engine = opened(copy_of(model, tmp_path / "model", tensors=tensors))
    inspection = engine.inspect()
    assert inspection.excused == excused
    text = engine.encode("def main(argv):")
    from pytest_llmopt.core.tokens import Continuation

    plain = opened(model)
    scored = [side.score([Continuation(text[:2], text[2:])])[0].token_logprobs for side in (engine, plain)]
    assert (scored[0] == scored[1]).all()


def test_a_shard_that_is_not_in_the_index_refuses_the_load(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copy_of("tiny-llama", tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {name: f"model-0000{1 + ('layers.3' in name)}-of-00002.safetensors" for name in tensors}
    for file in set(names.values()):
        save_file({name: tensors[name] for name in tensors if names[name] == file}, folder / file, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    opened(folder)
    kept = {name: file for name, file in names.items() if "layers.3" not in name}
    index.write_text(json.dumps({"metadata": {}, "weight_map": kept}))
    with pytest.raises(ModelError, match="9 are missing"):
        opened(folder)


PACKED = {
    "scales are missing": (without("layers.1.mlp.up_proj.scales"), {}, "layers.1.mlp.up_proj.scales"),
    "codes are missing": (without("layers.1.mlp.up_proj.qweight"), {}, "layers.1.mlp.up_proj.qweight"),
    "all names wrong": (renamed("x.{}".format), {}, "123 are missing"),
    "a layer too many": (None, {"num_hidden_layers": 5}, "30 are missing"),
    "a layer too few": (None, {"num_hidden_layers": 3}, "30 are in the checkpoint"),
    "codes are cut": (lambda t: t | {UP: t[UP][:8]}, {}, "layers.1.mlp.up_proj.qweight [8, 512] for [32, 512]"),
}
UP = "model.layers.1.mlp.up_proj.qweight"


@pytest.mark.parametrize("case", PACKED)
def test_a_packed_checkpoint_is_complete_or_refused(tmp_path, case):
    pytest.importorskip("gptqmodel")
    tensors, config, expected = PACKED[case]
    folder = copy_of("tiny-llama-gptq", tmp_path / "packed", tensors=tensors, config=config)
    with pytest.raises(ModelError) as raised:
        opened("tiny-llama", ("quantization.configured", {"checkpoint": str(folder)}))
    assert expected in str(raised.value)


def test_a_packed_layer_that_the_library_stumbles_over_is_named(tmp_path):
    """bitsandbytes cannot draw random codes: the library fails without a name in its words."""
    pytest.importorskip("bitsandbytes")
    nf4 = ("quantization.bitsandbytes", {})
    opened("tiny-llama", nf4).ask(SaveCheckpoint(str(tmp_path / "saved")))
    opened(tmp_path / "saved", nf4)
    folder = copy_of(tmp_path / "saved", tmp_path / "wrong", tensors=renamed("x.{}".format))
    with pytest.raises(ModelError, match=r"39 are missing.*lm_head.weight"):
        opened(folder, nf4)


def test_a_gguf_file_with_more_layers_than_the_model_is_refused(tmp_path):
    pytest.importorskip("gguf")
    policy = LoadPolicy(threads=1, cache=tmp_path / "cache")
    made = opened("tiny-llama", ("quantization.gguf", {}), policy=policy)
    file = Path(running_of(made).loaded.plan.weights) / "model.gguf"
    opened("tiny-llama", ("quantization.gguf", {"file": str(file)}), policy=policy)
    short = copy_of("tiny-llama", tmp_path / "short", config={"num_hidden_layers": 2})
    with pytest.raises(ModelError, match=r"18 of its tensors are nowhere in the model \(blk\.2"):
        opened(short, ("quantization.gguf", {"file": str(file)}), policy=policy)
    long = copy_of("tiny-llama", tmp_path / "long", config={"num_hidden_layers": 6})
    with pytest.raises(ModelError, match="18 are missing"):
        opened(long, ("quantization.gguf", {"file": str(file)}), policy=policy)


def adapter(folder, *, tensors=None, config=None):
    """The adapter of tiny-llama with other tensors or another configuration."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(locate("tiny-llama-lora"), folder)
    if tensors is not None:
        file = folder / "adapter_model.safetensors"
        save_file({name: value.clone() for name, value in tensors(load_file(file)).items()}, file, {"format": "pt"})
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | (config or {})))
    return ("adapters.lora", {"adapter": str(folder)})


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        (renamed(lambda name: name.replace("base_model.model.", "base_model.model.x.")), "nowhere in the model"),
        (without("layers.3."), "missing from its file"),
        (without("layers.1.mlp.up_proj.lora_A"), "missing from its file"),
        (renamed(lambda name: name.replace("layers.3.", "layers.9.")), "nowhere in the model"),
    ],
)
def test_an_adapter_that_fits_only_partly_is_refused(tmp_path, tensors, expected):
    pytest.importorskip("peft")
    with pytest.raises(ModelError, match=expected):
        opened("tiny-llama", adapter(tmp_path / "adapter", tensors=tensors))


def test_an_adapter_of_some_layers_by_its_own_word_is_loaded(tmp_path):
    pytest.importorskip("peft")
    some = adapter(
        tmp_path / "adapter", tensors=without("layers.3.", "layers.2."), config={"layers_to_transform": [0, 1]}
    )
    assert opened("tiny-llama", some).inspect().adapted_modules == 14


def test_a_draft_is_complete_or_refused(tmp_path):
    whole = copy_of("tiny-llama-draft", tmp_path / "whole")
    assert opened("tiny-llama", ("decoding.assisted", {"draft": str(whole)})).draft is not None
    broken = copy_of("tiny-llama-draft", tmp_path / "broken", tensors=without("model.norm"))
    with pytest.raises(ModelError, match=r"1 is missing.*model\.norm\.weight"):
        opened("tiny-llama", ("decoding.assisted", {"draft": str(broken)}))


def random_model(folder, kind, config, **options):
    """A tiny random model of Transformers with the tokenizer of tiny-llama."""
    import torch
    import transformers

    torch.manual_seed(0)
    getattr(transformers, kind)(getattr(transformers, config)(vocab_size=1024, **options)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(locate("tiny-llama")) / name, folder)
    return folder


BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
NOT_JUDGED = {
    "t5": (
        *("T5ForConditionalGeneration", "T5Config", "encoder-decoder"),
        {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4},
    ),
    "bart": (
        *("BartForConditionalGeneration", "BartConfig", "encoder-decoder"),
        {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
    ),
    "bert": ("BertForMaskedLM", "BertConfig", "bidirectional", BERT),
    "bert with a head that decodes": ("BertLMHeadModel", "BertConfig", "bidirectional", BERT),
    "xlnet": (
        *("XLNetLMHeadModel", "XLNetConfig", "bidirectional"),
        {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", NOT_JUDGED)
def test_what_can_never_be_judged_is_refused_in_one_sentence(tmp_path, case, dtype):
    kind, config, expected, options = NOT_JUDGED[case]
    if case == "xlnet" and dtype == "bfloat16":
        pytest.skip("it has no is_decoder, and its random weights move less than rounding does in 16 bits")
    folder = random_model(tmp_path / "model", kind, config, **options)
    with pytest.raises(ModelError, match=f"is an? {expected}|is {expected}") as raised:
        opened(folder, dtype=dtype)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "config", "options"),
    [
        ("BertLMHeadModel", "BertConfig", {**BERT, "is_decoder": True}),
        ("GPTNeoXForCausalLM", "GPTNeoXConfig", BERT),
        ("MixtralForCausalLM", "MixtralConfig", {**BERT, "num_local_experts": 4, "num_key_value_heads": 2}),
        ("BloomForCausalLM", "BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
        ("MambaForCausalLM", "MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_decoders_of_every_kind_are_opened(tmp_path, kind, config, options, dtype):
    opened(random_model(tmp_path / "model", kind, config, **options), dtype=dtype)


@dataclasses.dataclass(frozen=True)
class Step:
    """An optimization that takes one step after loading."""

    step: object = None
    promise = None
    requirements = ()
    conflicts = {}  # noqa: RUF012 - as an optimization has it

    def for_transformers(self, plan):
        plan.after_load.append(self.step)


def after(step):
    variant = Variant("tiny-llama", (Applied("planted.step", Step(step)),), device="cpu")
    return open_side(variant, LoadPolicy(threads=1))


def dropout_layer(model):
    import torch

    mlp = model.model.layers[1].mlp
    mlp.down_proj = torch.nn.Sequential(mlp.down_proj, torch.nn.Dropout(0.01))


def functional_dropout(model):
    """Somebody's own attention, as PyTorch makes a module: in training mode."""
    model.model.layers[2].self_attn.attention_dropout = 0.05
    model.model.layers[2].self_attn.training = True


def adapter_in_training(model):
    import peft

    config = peft.LoraConfig(target_modules=["q_proj"], lora_dropout=0.1, init_lora_weights=False)
    peft.get_peft_model(model, config)


def everything_in_training(model):
    model.train()
    model.model.layers[0].self_attn.attention_dropout = 0.1


@pytest.mark.parametrize(
    ("step", "named"),
    [
        (dropout_layer, "model.layers.1.mlp.down_proj.1"),
        (functional_dropout, "model.layers.2.self_attn"),
        (adapter_in_training, "lora_dropout"),
        (everything_in_training, "modules are in training mode"),
    ],
)
def test_dropout_that_is_on_refuses_the_load(step, named):
    with pytest.raises(ModelError, match=r"call model\.eval\(\)") as raised:
        after(step)
    assert named in str(raised.value)


def new_module(model):
    """A module that is in training mode, which makes no difference to what it computes."""
    import torch

    mlp = model.model.layers[1].mlp
    mlp.down_proj = torch.nn.Sequential(mlp.down_proj, torch.nn.Identity(), torch.nn.Dropout(0.0))


def adapter_in_evaluation(model):
    adapter_in_training(model)
    model.eval()


@pytest.mark.parametrize("step", [new_module, adapter_in_evaluation])
def test_training_mode_that_makes_no_difference_is_no_matter(step):
    assert after(step).vocab_size == 1024
