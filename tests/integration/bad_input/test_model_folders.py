"""Folders and names of models, checkpoints, adapters and drafts that cannot be used: each is refused in one sentence.

The sentence says which folder or name is wrong and in what, and ends with the next step.
"""

from __future__ import annotations

import json
import os
import shutil

import pytest
from broken_models import TINY, TOKENIZER, WEIGHTS, ZOO, copied, edited_json, header_only, random_model, weights
from sides import open_side

from pytest_llmopt.core.errors import LlmoptError, ModelError
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.sources import NotHereError
from pytest_llmopt.core.variant import Applied, Variant

pytestmark = pytest.mark.filterwarnings("ignore")

INDEX = f"{WEIGHTS}.index.json"
GPTQ = json.loads((ZOO / "tiny-llama-gptq" / "config.json").read_text())["quantization_config"]
T5 = {"vocab_size": 1024, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
LLAMA = {"vocab_size": 1024, "num_key_value_heads": 2, **TINY}
OWN_CODE = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
NEVER = ("\n", "Traceback", "KeyError", "IndexError", "ValueError", "TypeError", "AttributeError", "\x1b")
"""What no message of ours holds."""


def opened(model, *optimizations, **policy):
    """An engine of a model with optimizations, each a name with its options."""
    registry = Registry("optimizations", "optimization")
    applied = tuple(Applied(name, build(registry.load(name), name, (), options)) for name, options in optimizations)
    variant = Variant(str(model), applied, device="cpu")
    return open_side(variant, LoadPolicy(threads=1, **policy))


def refusal(*arguments, **policy):
    """The sentence in which a load is refused."""
    with pytest.raises(LlmoptError) as raised:
        opened(*arguments, **policy)
    text = str(raised.value)
    for piece in NEVER:
        assert piece not in text
    return text


def vocabulary(**more):
    """A tokenizer of tiny-llama with further tokens."""
    return edited_json("tiny-llama", "tokenizer.json", lambda content: content["model"]["vocab"].update(more))


def emptied(content):
    content["model"].update(vocab={}, merges=[])


def index(names):
    return {"without": (WEIGHTS,), "files": {INDEX: json.dumps({"metadata": {}, "weight_map": names})}}


def config(**keys):
    return {"config": keys}


def generation(**keys):
    return {"generation_config": keys}


def quantized(value):
    return {"config": {"quantization_config": value}}


def file(name, content):
    return {"files": {name: content}}


BROKEN = {
    # config.json
    "no config": ({"without": ("config.json",)}, ("has no config.json", "download or export")),
    "config is no JSON": (file("config.json", "{ oops"), ("config.json", "is not JSON", "again")),
    "config is binary": (file("config.json", b"\xff\xfe\x00"), ("config.json", "is not JSON", "again")),
    "config of no bytes": (file("config.json", ""), ("config.json", "is empty", "again")),
    "config is a list": (file("config.json", "[1]"), ("is [1], which is no object", "again")),
    "config is null": (file("config.json", "null"), ("is null, which is no object", "again")),
    "config says nothing": (file("config.json", "{}"), ("has no model_type", "copy the one")),
    "no model_type": (config(model_type=None), ("has no model_type", "copy the one")),
    "model_type is a number": (config(model_type=5), ("model_type=5", "copy the one")),
    "unknown model_type": (config(model_type="lama"), ("'lama'", "did you mean 'llama'?", "install a version")),
    "code of its own": (config(model_type="own", auto_map=OWN_CODE), ("code of its own", "--llmopt-trust-remote-code")),
    "a width in quotes": (config(hidden_size="256"), ("'hidden_size' expected int", "copy the one")),
    "heads that do not divide": (config(num_attention_heads=7), ("(256) is not a multiple", "(7)", "copy the one")),
    "no heads": (config(num_attention_heads=0), ("config.json", "by zero", "copy the one")),
    "unknown dtype": (config(dtype="float99"), ("float99", "copy the one")),
    "no room": (config(max_position_embeddings=0), ("max_position_embeddings=0", "copy the one")),
    "an unknown activation": (config(hidden_act="siluu"), ("there is no 'siluu'", "check its config.json")),
    "classes in no list": (config(architectures="LlamaForCausalLM"), ("architectures=", "write a list")),
    "a classifier by its word": (
        config(architectures=["LlamaForSequenceClassification"]),
        ("classifies texts", "name"),
    ),
    # weights
    "no weights": ({"without": (WEIGHTS,)}, ("has no weights", WEIGHTS, "download or export")),
    "pickles only": (
        {"without": (WEIGHTS,), **file("pytorch_model.bin", b"x")},
        ("pytorch_model.bin", "can run code", "--llmopt-unsafe-weights"),
    ),
    "another name": ({"without": (WEIGHTS,), **file("w.safetensors", b"x")}, ("only 'w.safetensors'", "rename")),
    "weights of Flax": ({"without": (WEIGHTS,), **file("flax_model.msgpack", b"x")}, ("of Flax", "convert")),
    "a GGUF file inside": ({"without": (WEIGHTS,), **file("m.gguf", b"GGUF")}, ("'m.gguf'", "quantized('gguf'")),
    "cut in the middle": (file(WEIGHTS, weights()[:200000]), ("200,000 bytes", "4,989,424", "again")),
    "cut in the header": (file(WEIGHTS, weights()[:100]), ("cut short", "100 bytes", "again")),
    "the header alone": (file(WEIGHTS, header_only(weights())), ("4,080 bytes", "4,989,424", "again")),
    "no bytes": (file(WEIGHTS, b""), ("cut short", "0 bytes", "again")),
    "another format": (file(WEIGHTS, b"\x89PNG" + bytes(1000)), ("no safetensors file", "again")),
    "a header that is no JSON": (file(WEIGHTS, b"\x04" + bytes(7) + b"oops"), ("header is not JSON", "again")),
    "no tensors": (file(WEIGHTS, b"\x02" + bytes(7) + b"{}"), ("holds no tensor", "export it again")),
    "a Git LFS pointer": (file(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"), ("git lfs pull",)),
    "a shard is missing": (
        index({"model.norm.weight": "model-1-of-2.safetensors"}),
        ("'model-1-of-2", "copy the missing"),
    ),
    "an index of nothing": (index({}), (INDEX, "no weight_map", "again")),
    "an index of numbers": (index({"model.norm.weight": 5}), (INDEX, "no weight_map", "again")),
    "an index that is a list": ({"without": (WEIGHTS,), **file(INDEX, "[]")}, (INDEX, "no weight_map", "again")),
    "an index that is no JSON": ({"without": (WEIGHTS,), **file(INDEX, "{")}, (INDEX, "is not JSON", "again")),
    # quantization_config
    "unknown method": (quantized({"quant_method": "gptqq"}), ("'gptqq'", "did you mean 'gptq'?", "correct it")),
    "a config in quotes": (quantized("gptq"), ('is "gptq", which is no object', "copy the one")),
    "a config that is a list": (quantized([4]), ("is [4], which is no object", "copy the one")),
    "a config without a method": (quantized({"bits": 4}), ("there is no quant_method", "write the one")),
    "a method that is a number": (quantized({"quant_method": 4}), ("quant_method is 4", "write the one")),
    "a method without its bits": (quantized({"quant_method": "gptq"}), ("'bits'", "correct it")),
    "a method without its switch": (quantized({"quant_method": "bitsandbytes"}), ("load_in_4bit or", "correct it")),
    "bits in words": (quantized({"quant_method": "gptq", "bits": "four"}), ("found four", "correct it")),
    # generation_config.json
    "generation is no JSON": (file("generation_config.json", "{"), ("generation_config.json", "is not JSON", "again")),
    "generation is a list": (file("generation_config.json", "[]"), ("is [], which is no object", "again")),
    "generation is null": (file("generation_config.json", "null"), ("is null, which is no object", "again")),
    "an end beyond the vocabulary": (generation(eos_token_id=[0, 5000]), ("5000", "1024 tokens", "correct")),
    "an end below it": (generation(eos_token_id=-1), ("eos_token_id=-1", "no token id", "correct it")),
    "an end in quotes": (generation(eos_token_id="0"), ('eos_token_id="0"', "no token id", "correct it")),  # noqa: S106 - no password
    "an end that is true": (generation(eos_token_id=True), ("eos_token_id=true", "no token id", "correct it")),
    "ends in lists": (generation(eos_token_id=[[0]]), ("eos_token_id=[[0]]", "no token id", "correct it")),
    "padding in words": (generation(pad_token_id="pad"), ('pad_token_id="pad"', "no token id", "correct it")),  # noqa: S106 - no password
    "a temperature in words": (generation(temperature="hot"), ('temperature="hot"', "no number", "correct it")),
    "a length in words": (generation(max_new_tokens="many"), ('max_new_tokens="many"', "no number", "correct it")),
    # tokenizer
    "no tokenizer": ({"without": TOKENIZER}, ("has no tokenizer", "tokenizer.json", "copy the one")),
    "no tokenizer.json": ({"without": TOKENIZER[:1]}, ("tokenizer", "cannot be loaded", "copy the ones")),
    "tokenizer is no JSON": (file("tokenizer.json", "{"), ("tokenizer", "cannot be loaded", "copy the ones")),
    "tokenizer says nothing": (file("tokenizer.json", "{}"), ("there is no 'added_tokens'", "copy the ones")),
    "tokenizer is a list": (file("tokenizer.json", "[]"), ("tokenizer", "cannot be loaded", "copy the ones")),
    "a setting of it is a list": (file("tokenizer_config.json", "[]"), ("tokenizer_config.json", "no object", "again")),
    "a length of it in words": ({"tokenizer_config": {"model_max_length": "many"}}, ("tokenizer", "copy the ones")),
    "an empty vocabulary": (
        file("tokenizer.json", edited_json("tiny-llama", "tokenizer.json", emptied)),
        ("has no tokens for a text", "copy the one"),
    ),
    "more ids than rows": (
        file("tokenizer.json", vocabulary(extra=1500)),
        ("token 1500", "'extra'", "1024 rows", "copy"),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_named_with_what_is_wrong_and_the_next_step(tmp_path, case):
    changes, expected = BROKEN[case]
    folder = copied(tmp_path / "model", **changes)
    text = refusal(folder)
    for piece in (str(folder), *expected):
        assert piece in text


@pytest.mark.parametrize(
    "changes",
    [
        generation(frobnicate=5),
        generation(do_sample=False, temperature=0.7, top_p=0.5),
        generation(eos_token_id=[]),
        file("generation_config.json", "{}"),
        {"without": ("generation_config.json",)},
    ],
    ids=["an unknown field", "contradictory fields", "no end", "an empty object", "no file"],
)
def test_what_decoding_never_reads_of_a_generation_config_is_let_through(tmp_path, changes):
    """Both sides are told how to choose tokens with every request, so that such fields change nothing."""
    assert opened(copied(tmp_path / "model", **changes)).vocab_size == 1024


OTHER_KINDS = {
    "t5": ("T5ForConditionalGeneration", "T5Config", T5, ("is an encoder-decoder (t5)", "only decoders")),
    "t5 encoder": (
        "T5EncoderModel",
        "T5Config",
        T5 | {"is_encoder_decoder": False},
        ("is a T5EncoderModel", "name one"),
    ),
    "bert": ("BertForMaskedLM", "BertConfig", {"vocab_size": 1024, **TINY}, ("is bidirectional", "name a causal")),
    "bert without a head": (
        "BertModel",
        "BertConfig",
        {"vocab_size": 1024, **TINY},
        ("config.json says BertModel", "again"),
    ),
    "vit": ("ViTModel", "ViTConfig", TINY | {"image_size": 8, "patch_size": 4}, ("is a ViTModel", "name one")),
    "classifier": ("LlamaForSequenceClassification", "LlamaConfig", LLAMA, ("classifies texts", "name a causal")),
    "no head": ("LlamaModel", "LlamaConfig", LLAMA, ("lm_head.weight", "config.json says LlamaModel", "again")),
}


@pytest.mark.parametrize("case", OTHER_KINDS)
def test_a_model_of_another_kind_is_named_as_what_it_is(tmp_path, case):
    kind, of, options, expected = OTHER_KINDS[case]
    text = refusal(random_model(tmp_path / "model", kind, of, **options))
    for piece in (str(tmp_path), *expected):
        assert piece in text


NAMES = {
    "a slip in a zoo name": ("tiny-lama", ("'tiny-lama'", "did you mean 'tiny-llama'", "--llmopt-download")),
    "a zoo name in capitals": ("Tiny-Llama", ("did you mean 'tiny-llama'", "--llmopt-download")),
    "a zoo name as a folder": ("tiny-llama/", ("does not exist", "did you mean 'tiny-llama'")),
    "a hub id": ("nobody/no-such-model", ("'nobody/no-such-model'", "--llmopt-download")),
    "letters that no id has": ("no body/what?!", ("'no body/what?!'", "no possible hub id", "give an existing")),
    "a revision": ("org/model@main", ("no possible hub id", "give an existing")),
    "an address": ("https://huggingface.co/org/model", ("is an address", "give the id alone")),
    "an absolute path": ("/nowhere/model", ("'/nowhere/model' does not exist", "give an existing")),
    "a relative path": ("./nowhere", ("does not exist: no such folder in /", "give an existing")),
    "a home": ("~/nowhere-at-all", ("'~/nowhere-at-all' does not exist", "give an existing")),
    "a home of nobody": ("~no-such-user/model", ("'~no-such-user/model'", "give an existing")),
    "a path of Windows": ("C:\\models\\llama", ("does not exist", "give an existing")),
    "nothing": ("", ("is empty", "--llmopt-model")),
    "blanks": ("   ", ("is empty", "--llmopt-model")),
    "a line break": ("a\nb", (r"'a\nb'", "name another")),
    "a color": ("a\x1b[31mb", (r"'a\x1b[31mb'", "name another")),
    "a zero byte": ("a\0b", (r"a\x00b", "name another")),
    "a lone surrogate": ("a\udcff", (r"a\udcff", "name another")),
    "much too long": ("a" * 5000, ("cannot be looked at", "give an existing")),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_name_of_nothing_is_refused_with_what_it_could_have_been(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    name, expected = NAMES[case]
    text = refusal(name)
    for piece in expected:
        assert piece in text
    assert len(text) < 800


def a_file(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


def a_link(folder, target):
    (folder / "link").symlink_to(folder / target)
    return folder / "link"


def a_folder(folder, *names):
    for name in names:
        (folder / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "made" / name).write_text("{}")
    (folder / "made").mkdir(exist_ok=True)
    return folder / "made"


PLACES = {
    "a text file": (lambda folder: a_file(folder, "notes.txt", b"x"), ("is a file", "name the folder")),
    "its own config": (lambda folder: copied(folder / "model") / "config.json", ("is a file", "name the folder")),
    "a GGUF file": (
        lambda folder: a_file(folder, "m.gguf", b"GGUF"),
        ("is a GGUF file", "quantized('gguf', file=...)"),
    ),
    "an empty folder": (a_folder, ("is empty", "download or export")),
    "a link to itself": (lambda folder: a_link(folder, "link"), ("leads nowhere", "mend it")),
    "a link to nothing": (lambda folder: a_link(folder, "absent"), ("leads nowhere", "mend it")),
    "an adapter": (lambda _: ZOO / "tiny-llama-lora", ("is an adapter", "'tiny-llama'", "@llmopt.lora")),
    "an adapter of the zoo": (lambda _: "tiny-llama-lora", ("is an adapter", "'tiny-llama'", "@llmopt.lora")),
    "a folder of models": (lambda _: ZOO, ("has no config.json", "'tiny-gemma'", "name that folder")),
    "a pipeline": (lambda folder: a_folder(folder, "model_index.json"), ("of Diffusers", "name a causal")),
    "the hub's cache": (
        lambda folder: a_folder(folder, "snapshots/1/x", "refs/main"),
        ("hub's cache", "name the folder"),
    ),
    "a device": (lambda _: "/dev/null", ("is neither a folder nor a file", "name the folder")),
    "other files": (lambda folder: a_folder(folder, "params.json"), ("no config.json", "'params.json'", "again")),
}


@pytest.mark.parametrize("case", PLACES)
def test_a_place_that_is_no_model_is_named_as_what_it_is(tmp_path, case):
    make, expected = PLACES[case]
    place = make(tmp_path)
    text = refusal(place)
    for piece in (str(place), *expected):
        assert piece in text


def test_weights_behind_a_link_that_leads_nowhere_are_named(tmp_path):
    folder = copied(tmp_path / "model", without=(WEIGHTS,))
    (folder / WEIGHTS).symlink_to(tmp_path / "absent")
    assert "link that leads nowhere" in refusal(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    folder = copied(tmp_path / "model")
    folder.chmod(0)
    try:
        assert "chmod" in refusal(folder)
    finally:
        folder.chmod(0o700)


def test_a_folder_in_the_home_and_one_with_odd_letters_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    copied(tmp_path / "my model\x1b")
    assert opened("~/my model\x1b").vocab_size == 1024


def checkpoint(name):
    return ("quantization.configured", {"checkpoint": str(name)})


def adapter(name):
    return ("adapters.lora", {"adapter": str(name)})


def draft(name):
    return ("decoding.assisted", {"draft": str(name)})


BESIDE = {
    # checkpoint=
    "checkpoint: absent": (checkpoint, "/nowhere", None, ("checkpoint '/nowhere' does not exist", "give")),
    "checkpoint: a slip": (
        checkpoint,
        "tiny-llama-gpqt",
        None,
        ("did you mean 'tiny-llama-gptq'", "--llmopt-download"),
    ),
    "checkpoint: not quantized": (checkpoint, "tiny-qwen", None, ("is not quantized", "name one")),
    "checkpoint: an adapter": (checkpoint, "tiny-llama-lora", None, ("is an adapter", "name")),
    "checkpoint: no weights": (checkpoint, "tiny-llama-gptq", {"without": (WEIGHTS,)}, ("has no weights", "download")),
    "checkpoint: cut": (
        *(checkpoint, "tiny-llama-gptq", file(WEIGHTS, weights("tiny-llama-gptq")[:5000])),
        ("cut short", "again"),
    ),
    "checkpoint: no JSON": (checkpoint, "tiny-llama-gptq", file("config.json", "{"), ("is not JSON", "again")),
    "checkpoint: a list": (checkpoint, "tiny-llama-gptq", file("config.json", "[]"), ("is [], which", "again")),
    "checkpoint: config in quotes": (checkpoint, "tiny-llama-gptq", quantized("gptq"), ("no object", "copy")),
    "checkpoint: no method": (checkpoint, "tiny-llama-gptq", quantized({"bits": 4}), ("no quant_method", "write")),
    "checkpoint: unknown method": (
        *(checkpoint, "tiny-llama-gptq", quantized(GPTQ | {"quant_method": "gptqq"})),
        ("did you mean 'gptq'?", "correct it"),
    ),
    "checkpoint: 99 bits": (
        *(checkpoint, "tiny-llama-gptq", quantized(GPTQ | {"bits": 99})),
        ("quantization_config of the checkpoint", "bits=99", "allowed"),
    ),
    # adapter=
    "adapter: absent": (adapter, "/nowhere", None, ("adapter '/nowhere' does not exist", "give")),
    "adapter: a slip": (adapter, "tiny-llama-lroa", None, ("did you mean 'tiny-llama-lora'", "--llmopt-download")),
    "adapter: a whole model": (adapter, "tiny-qwen", None, ("is a whole model", "name the folder")),
    "adapter: no config": (
        adapter,
        "tiny-llama-lora",
        {"without": ("adapter_config.json",)},
        ("is no adapter", "name"),
    ),
    "adapter: no weights": (
        *(adapter, "tiny-llama-lora", {"without": ("adapter_model.safetensors",)}),
        ("has no weights", "copy or export"),
    ),
    "adapter: pickles": (
        *(adapter, "tiny-llama-lora"),
        {"without": ("adapter_model.safetensors",), **file("adapter_model.bin", b"x")},
        ("can run code", "--llmopt-unsafe-weights"),
    ),
    "adapter: cut": (
        *(adapter, "tiny-llama-lora", file("adapter_model.safetensors", bytes(300))),
        ("no safetensors file", "again"),
    ),
    "adapter: no JSON": (adapter, "tiny-llama-lora", file("adapter_config.json", "{"), ("is not JSON", "again")),
    "adapter: says nothing": (
        adapter,
        "tiny-llama-lora",
        file("adapter_config.json", "{}"),
        ("peft_type=null", "LORA"),
    ),
    "adapter: unknown type": (
        *(adapter, "tiny-llama-lora", {"adapter_config": {"peft_type": "LORAX"}}),
        ('peft_type="LORAX"', "LORA"),
    ),
    "adapter: a rank in words": (
        *(adapter, "tiny-llama-lora", {"adapter_config": {"r": "four"}}),
        ("cannot be put on", "compare its adapter_config.json"),
    ),
    "adapter: of another model": (adapter, "tiny-qwen-lora", None, ("cannot be put on", "compare")),
    # draft=
    "draft: absent": (draft, "/nowhere", None, ("draft '/nowhere' does not exist", "--llmopt-draft")),
    "draft: a slip": (draft, "tiny-llama-darft", None, ("did you mean 'tiny-llama-draft'", "--llmopt-download")),
    "draft: no weights": (draft, "tiny-llama-draft", {"without": (WEIGHTS,)}, ("has no weights", "download")),
    "draft: no tokenizer": (draft, "tiny-llama-draft", {"without": TOKENIZER}, ("has no tokenizer", "copy")),
    "draft: no config": (draft, "tiny-llama-draft", {"without": ("config.json",)}, ("has no config.json", "again")),
    "draft: cut": (draft, "tiny-llama-draft", file(WEIGHTS, b"x"), ("cut short", "again")),
    "draft: an adapter": (draft, "tiny-llama-lora", None, ("is an adapter", "name")),
    "draft: a classifier": (
        *(draft, "tiny-llama-draft", config(architectures=["LlamaForTokenClassification"])),
        ("classifies tokens", "name a causal"),
    ),
}


@pytest.mark.parametrize("case", BESIDE)
def test_what_is_brought_along_beside_a_model_is_held_to_the_same(tmp_path, case):
    option, name, changes, expected = BESIDE[case]
    if option is adapter:
        pytest.importorskip("peft")
    place = name if changes is None else copied(tmp_path / "beside", name, **changes)
    text = refusal("tiny-llama", option(place))
    for piece in (str(place), *expected):
        assert piece in text


def test_the_draft_of_the_command_line_is_held_to_the_same():
    text = refusal("tiny-llama", ("decoding.assisted", {}), draft="nobody/no-such-draft")
    assert "the draft 'nobody/no-such-draft'" in text
    assert "--llmopt-download" in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "(empty)"), (b"GGUF" + bytes(100), "of version 0"), (b"PK\x03\x04junk", "another kind of file")],
)
def test_a_file_that_is_no_gguf_file_is_named(tmp_path, content, expected):
    pytest.importorskip("gguf")
    given = a_file(tmp_path, "m.gguf", content)
    text = refusal("tiny-llama", ("quantization.gguf", {"file": str(given)}))
    for piece in (str(given), expected, "convert it again"):
        assert piece in text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("there is no quant_method", "write the one")),
        ({"quant_method": "nope"}, ("'nope'", "it knows", "gptq")),
        ({"quant_method": "bitsandbytes", "load_in_4bit": "yes"}, ("must be a boolean", "correct it")),
    ],
)
def test_a_quantization_config_that_is_given_is_held_to_the_same(given, expected):
    text = refusal("tiny-llama", ("quantization.configured", {"config": given}))
    for piece in ("the quantization config that is given", *expected):
        assert piece in text


def test_the_weights_of_a_model_may_be_absent_where_a_checkpoint_brings_its_own(tmp_path):
    pytest.importorskip("gptqmodel")
    folder = copied(tmp_path / "model", without=(WEIGHTS,))
    assert opened(folder, checkpoint("tiny-llama-gptq")).vocab_size == 1024


def test_pickles_are_loaded_on_request(tmp_path):
    import torch
    from safetensors.torch import load_file

    folder = copied(tmp_path / "model", without=(WEIGHTS,))
    torch.save(load_file(ZOO / "tiny-llama" / WEIGHTS), folder / "pytorch_model.bin")
    assert opened(folder, unsafe_weights=True).vocab_size == 1024


def test_a_copy_of_the_hub_is_found_where_its_library_keeps_it(tmp_path, monkeypatch):
    """Without the copy the id is refused, and a copy that is broken is refused as a folder is."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(NotHereError):
        opened("org/model")
    kept = tmp_path / "models--org--model"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("abc")
    copied(kept / "snapshots" / "abc", without=(WEIGHTS,))
    with pytest.raises(ModelError, match="the model 'org/model' has no weights"):
        opened("org/model")
    shutil.copy(ZOO / "tiny-llama" / WEIGHTS, kept / "snapshots" / "abc")
    from pytest_llmopt.engines.transformers import TransformersEngine

    TransformersEngine.precheck(Variant("org/model"), LoadPolicy())
