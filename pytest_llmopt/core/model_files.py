"""What is wrong with the folder of a model, as far as names and small JSON files show: no library is needed for it."""

from __future__ import annotations

import json
import numbers
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import ModelError
from pytest_llmopt.core.quoting import quoted, said
from pytest_llmopt.core.weight_files import check_safetensors, check_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_llmopt.core.loading import LoadPolicy

ADAPTER = "adapter_config.json"
LORA = ("LORA", "ADALORA")
"""Kinds of adapters that lie beside the weights of a layer."""
NO_DECODERS = {
    "ForSequenceClassification": "classifies texts",
    "ForTokenClassification": "classifies tokens",
    "ForMultipleChoice": "chooses among answers",
    "ForQuestionAnswering": "marks a part of a text",
    "ForNextSentencePrediction": "compares two sentences",
    "ForImageClassification": "classifies images",
    "ForObjectDetection": "finds objects in images",
    "ForSemanticSegmentation": "divides images",
    "ForMaskedImageModeling": "fills gaps in images",
    "ForAudioClassification": "classifies sound",
    "ForCTC": "writes down speech",
    "RewardModel": "scores texts",
}
"""What a model does instead of decoding, by how the name of its class ends."""
NUMBERS = (
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "repetition_penalty"),
    *("length_penalty", "no_repeat_ngram_size", "max_length", "max_new_tokens", "min_length", "min_new_tokens"),
    *("num_beams", "num_return_sequences", "diversity_penalty", "max_time"),
)
"""Fields of a generation config that are numbers where they are there."""
TOKENS = ("bos_token_id", "pad_token_id", "decoder_start_token_id")
SIGNS = ("tokenizer", "vocab", "merges", "spiece", "sentencepiece", "tekken", "tiktoken", ".spm", ".bpe")
"""Parts of the names of files that a tokenizer may be in."""


def check_model(
    folder: Path, name: str, policy: LoadPolicy, role: str = "model", *, weights: bool = True, tokenizer: bool = True
) -> None:
    """Accept a folder that may hold a causal language model.

    Args:
        folder: where its files are.
        name: by which it was named.
        policy: what may be loaded.
        role: what it is for, such as `draft`.
        weights: whether its weights will be loaded.
        tokenizer: whether its tokenizer will be.

    Raises:
        ModelError: a file is missing or broken, or it is a model of another kind.
    """
    what = f"{role} {quoted(name)}"
    config = config_of(folder, what)
    _refuse_code(config, what, policy)
    _refuse_other_kinds(config, what)
    stated = config.get("quantization_config")
    if stated is not None:
        check_quantization(stated, f"quantization_config in config.json of the {what}")
    _check_generation(folder, config, what)
    if weights and not config.get("transformers_weights"):
        check_weights(folder, what, unsafe=policy.unsafe_weights)
    if tokenizer:
        _check_tokenizer(folder, config, what)


def check_quantization(stated: object, place: str) -> None:
    """Accept what may be a `quantization_config`.

    Args:
        stated: what there is.
        place: where, for the message.

    Raises:
        ModelError: it is no object, or does not name its method.
    """
    if not isinstance(stated, dict):
        msg = f"{place} is {_short(stated)}, which is no object; copy the one that came with the weights"
        raise ModelError(msg)
    method = stated.get("quant_method")
    older = any(stated.get(key) for key in ("load_in_4bit", "load_in_8bit"))
    if not older and not (isinstance(method, str) and method.strip()):
        found = f"quant_method is {_short(method)}" if "quant_method" in stated else "there is no quant_method"
        msg = f"{place} does not name its method: {found}; write the one that the weights were quantized with"
        raise ModelError(msg)


def check_adapter(folder: Path, name: str, policy: LoadPolicy) -> dict[str, Any]:
    """The configuration of a LoRA adapter in a folder that may hold one.

    Raises:
        ModelError: a file is missing or broken, or it is another kind of adapter.
    """
    what = f"adapter {quoted(name)}"
    if not (folder / ADAPTER).is_file():
        whole = (folder / "config.json").is_file()
        found = "is a whole model, since it has a config.json and no" if whole else "is no adapter: it has no"
        msg = f"the {what} {found} {ADAPTER}; name the folder that PEFT's save_pretrained wrote"
        raise ModelError(msg)
    config = object_in(folder / ADAPTER, what)
    kind = config.get("peft_type")
    if kind not in LORA:
        msg = f"{ADAPTER} of the {what} says peft_type={_short(kind)}; lora takes {' and '.join(LORA)} only"
        raise ModelError(msg)
    file = folder / "adapter_model.safetensors"
    if file.is_file():
        check_safetensors(file, what)
    elif not (folder / "adapter_model.bin").is_file():
        msg = f"the {what} has no weights: no {file.name} in its folder; copy or export them"
        raise ModelError(msg)
    elif not policy.unsafe_weights:
        msg = (
            f"the {what} has pickled weights only (adapter_model.bin), and these can run code when they are loaded; "
            "convert them to safetensors, or allow them with --llmopt-unsafe-weights"
        )
        raise ModelError(msg)
    return config


def config_of(folder: Path, what: str) -> dict[str, Any]:
    """What `config.json` says of a model.

    Raises:
        ModelError: it is absent or broken, or does not say what it is of.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(_no_config(folder, what))
    config = object_in(file, what)
    kind = config.get("model_type")
    if "auto_map" not in config and not (isinstance(kind, str) and kind):
        found = f"says model_type={_short(kind)}" if "model_type" in config else "has no model_type"
        msg = f"config.json of the {what} {found}; copy the one that came with the weights, or write their model_type"
        raise ModelError(msg)
    return config


def _no_config(folder: Path, what: str) -> str:
    """Why a folder has no config.json, and what to do."""
    if (folder / ADAPTER).is_file():
        base = object_in(folder / ADAPTER, what).get("base_model_name_or_path")
        named = f"its base {quoted(base)}" if base else "its base"
        return (
            f"the {what} is an adapter, not a whole model; name {named} as the model, and put "
            "@llmopt.lora(adapter=...) on the test"
        )
    return _in_place_of_config(folder, sorted(path.name for path in folder.iterdir()), what)


def _in_place_of_config(folder: Path, inside: Sequence[str], what: str) -> str:
    """What there is in a folder that is none of a model."""
    if not inside:
        return f"the folder of the {what} is empty; download or export the model into it"
    if "snapshots" in inside:
        return f"the {what} is a folder of the hub's cache; name the folder in its snapshots/, or the hub id"
    below = [name for name in inside if (folder / name / "config.json").is_file()]
    if below:
        return f"the {what} has no config.json, but its folder {quoted(below[0])} has one; name that folder"
    if "model_index.json" in inside:
        return f"the {what} is a pipeline of Diffusers, not a language model; name a causal language model"
    files = [name for name in inside if name.endswith(".gguf")]
    if files:
        return (
            f"the {what} holds only a GGUF file ({quoted(files[0])}) and no config.json; name the folder of the model "
            "that it was made from, and give the file to quantized('gguf', file=...)"
        )
    found = ", ".join(map(quoted, inside[:3]))
    return f"the {what} has no config.json; its folder has {found}: download or export the model again"


def _refuse_code(config: Mapping[str, Any], what: str, policy: LoadPolicy) -> None:
    """Accept what needs no code of its own, or may bring it."""
    if config.get("auto_map") and "model_type" not in config and not policy.trust_remote_code:
        msg = f"the {what} needs code of its own (auto_map); read it, then allow it with --llmopt-trust-remote-code"
        raise ModelError(msg)


def _refuse_other_kinds(config: Mapping[str, Any], what: str) -> None:
    """Accept what may be a decoder, by what the configuration says."""
    if config.get("is_encoder_decoder") is True:
        kind = config.get("model_type")
        msg = f"the {what} is an encoder-decoder ({kind}): only decoders can be judged, so name one of these"
        raise ModelError(msg)
    classes = config.get("architectures") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        msg = f"config.json of the {what} says architectures={_short(classes)}; write a list of the names of classes"
        raise ModelError(msg)
    masked = [name for name in classes if name.endswith("ForMaskedLM")]
    if masked and len(masked) == len(classes) and not config.get("is_decoder"):
        msg = (
            f"the {what} is bidirectional: its {masked[0]} looks at later tokens to fill gaps, so it does not decode "
            "and cannot be judged; name a causal model"
        )
        raise ModelError(msg)
    for ending, does in NO_DECODERS.items():
        if classes and all(name.endswith(ending) for name in classes):
            msg = f"the {what} is a {classes[0]}, which {does} and does not decode; name a causal language model"
            raise ModelError(msg)


def _check_generation(folder: Path, config: Mapping[str, Any], what: str) -> None:
    """Accept the special tokens and numbers of a configuration and of `generation_config.json`.

    Other fields are not looked at: what is sampled by is said with every request, of both sides alike.
    """
    file = folder / "generation_config.json"
    stated = object_in(file, what) if file.exists() else config
    wrong = _wrong_token(stated) or ("" if stated is config else _wrong_number(stated))
    if wrong:
        source = "config.json" if stated is config else file.name
        msg = f"{source} of the {what} says {wrong}; correct it, or copy the file that came with the weights"
        raise ModelError(msg)


def _wrong_number(content: Mapping[str, Any]) -> str:
    for name in NUMBERS:
        value = content.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
            return f"{name}={_short(value)}, which is no number"
    return ""


def _wrong_token(content: Mapping[str, Any]) -> str:
    ends = content.get("eos_token_id")
    for end in ends if isinstance(ends, list) else [ends]:
        if end is not None and not (type(end) is int and end >= 0):
            return f"eos_token_id={_short(ends)}, which is no token id"
    for name in TOKENS:
        value = content.get(name)
        if value is not None and type(value) is not int and not (isinstance(value, list) and _ids(value)):
            return f"{name}={_short(value)}, which is no token id"
    return ""


def _ids(values: list[Any]) -> bool:
    return all(type(value) is int for value in values)


def _check_tokenizer(folder: Path, config: Mapping[str, Any], what: str) -> None:
    """Accept a folder with a file that a tokenizer may be in."""
    found = [path.name.lower() for path in folder.iterdir()]
    if not any(sign in name for name in found for sign in SIGNS):
        kind = next(iter(config.get("architectures") or ()), config.get("model_type"))
        other = "name a model of texts"
        if config.get("quantization_config"):
            other = "name the model that it was made from, and give this to quantized(checkpoint=...)"
        msg = (
            f"the {what} has no tokenizer: no tokenizer.json in the folder of this {kind}; copy the one that it was "
            f"trained with, or {other}"
        )
        raise ModelError(msg)
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if (folder / name).exists():
            object_in(folder / name, what)


def object_in(file: Path, what: str) -> dict[str, Any]:
    """The JSON object in a small file.

    Args:
        file: what to read.
        what: the model that it belongs to, with its name.

    Raises:
        ModelError: it cannot be read, or is none.
    """
    again = "download or export it again"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except PermissionError as error:
        msg = f"{file.name} of the {what} may not be read by this user; run chmod u+r on it"
        raise ModelError(msg) from error
    except (OSError, ValueError, RecursionError) as error:
        why = "is empty" if _size(file) == 0 else f"is not JSON ({said(error)})"
        msg = f"{file.name} of the {what} {why}; {again}"
        raise ModelError(msg) from error
    if not isinstance(content, dict):
        msg = f"{file.name} of the {what} is {_short(content)}, which is no object; {again}"
        raise ModelError(msg)
    return content


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None


def _short(value: object) -> str:
    """A value of JSON as it is written, not too long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."  # noqa: PLR2004 - characters
