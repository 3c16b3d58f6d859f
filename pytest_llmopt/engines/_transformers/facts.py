"""What a loaded model and its tokenizer say beside the weights, as plain data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXTS = (
    "def main(argv):\n    return 0\n",
    "The quick brown fox, 1234567890 times; it's 3.14!",
    "  two  spaces\tand a tab \n\n\n",
    "na\u00efve cafe\u0301 \u4f60\u597d\uff0c\u4e16\u754c \u0645\u0631\u062d\u0628\u0627",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \u200b\ufeff \U0001d54f \ufb01",
    "<s></s><pad><unk><|endoftext|><|im_start|>user\n<|eot_id|>[INST]",
    "",
)
"""Encoded by both sides: code, numbers, white space, scripts, joined and odd characters, and what looks special."""
OWN_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
)
"""Files of a checkpoint's folder that make up a tokenizer."""
COMPLETE = {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"}
"""One of them is a tokenizer; without any, the others change the one of the model under test."""


def facts(model: Any, tokenizer: Any) -> dict[str, str]:
    """Every fact of `core.checkpoint.FACTS` by name, as JSON."""
    config = model.config.get_text_config()
    generation = model.generation_config
    eos = generation.eos_token_id
    found = {
        "eos_token_ids": sorted([eos] if isinstance(eos, int) else eos or []),
        "stop_strings": _listed(getattr(generation, "stop_strings", None)),
        "context_length": getattr(config, "max_position_embeddings", None),
        "rope": _rope(config),
        "attention_windows": {
            name: getattr(config, name, None) for name in ("sliding_window", "layer_types", "attention_chunk_size")
        },
        **_tied(model),
        **_of_tokenizer(tokenizer),
    }
    return {name: json.dumps(value, ensure_ascii=False, default=str) for name, value in found.items()}


def tokenizer_of(weights: str | None, shared: Any, source: Mapping[str, Any]) -> Any:
    """The tokenizer in the folder of a checkpoint; the one of the model under test where it has none.

    Args:
        weights: the folder or hub id of a checkpoint of its own, or None.
        shared: the tokenizer of the model under test.
        source: arguments of every `from_pretrained`.
    """
    if weights is None:
        return shared
    from transformers import AutoTokenizer

    folder = Path(weights)
    if folder.is_dir():
        own = {name for name in OWN_TOKENIZER if (folder / name).is_file()}
        return AutoTokenizer.from_pretrained(weights, **source) if own & COMPLETE else shared
    try:
        return AutoTokenizer.from_pretrained(weights, **source)
    except (OSError, ValueError):
        return shared  # a hub checkpoint without a tokenizer, or one that was downloaded without it


def _rope(config: Any) -> Any:
    names = ("rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor", "position_embedding_type")
    stated = {name: getattr(config, name, None) for name in names}
    if stated["rope_parameters"]:  # the others are older words for the same
        stated = {"rope_parameters": stated["rope_parameters"]}
    return _plain({name: value for name, value in stated.items() if value is not None})


def _plain(value: Any) -> Any:
    """Numbers that are equal written alike, whatever the order of keys."""
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _tied(model: Any) -> dict[str, bool]:
    """Whether head and embedding lie in one storage; nothing where one is packed, which claims about heads judge."""
    import torch

    weights = []
    for part in (model.get_input_embeddings(), model.get_output_embeddings()):
        weight = getattr(getattr(part, "base_layer", part), "weight", None)
        if not isinstance(weight, torch.Tensor) or type(weight.data) is not torch.Tensor:
            return {}
        if not weight.is_floating_point():
            return {}
        weights.append(weight)
    return {"tied_weights": weights[0].untyped_storage().data_ptr() == weights[1].untyped_storage().data_ptr()}


def _of_tokenizer(tokenizer: Any) -> dict[str, Any]:
    specials = dict(tokenizer.special_tokens_map)
    named = {
        name: [token, tokenizer.convert_tokens_to_ids(token)]
        for name, token in specials.items()
        if isinstance(token, str)
    }
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0]))
    marks = [token for token in tokenizer.all_special_tokens if isinstance(token, str)]
    # In front, at the end and inside of a text: where a special token is split, the ids say so.
    texts = [*TEXTS, *(f"{mark}a {mark}b{mark}" for mark in marks[:8])]
    return {
        "special_tokens": named,
        "added_tokens": {str(token): place for place, token in sorted(tokenizer.added_tokens_decoder.items())},
        "tokenizer": {
            **{text: list(tokenizer(text)["input_ids"]) for text in texts},
            "the vocabulary": f"{len(vocabulary)} entries, sha256 {_digest(json.dumps(vocabulary))}",
        },
        "chat_template": _template(tokenizer),
    }


def _template(tokenizer: Any) -> str | None:
    template = getattr(tokenizer, "chat_template", None)
    if template is None:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return f"sha256 {_digest(text)}: {text}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())
