"""Folders of models that are broken in one way each, made from models of the zoo and from tiny random ones."""

from __future__ import annotations

import json
import shutil
import struct
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.loading import fixtures_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ZOO = fixtures_folder() / "models"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
WEIGHTS = "model.safetensors"
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def copied(
    folder: Path,
    model: str = "tiny-llama",
    *,
    without: tuple[str, ...] = (),
    files: Mapping[str, str | bytes] | None = None,
    **changed: Mapping[str, Any],
) -> Path:
    """A copy of a model of the zoo; its weights are a link, since most are never read.

    Args:
        folder: where it goes.
        model: of the zoo.
        without: files that it lacks.
        files: files that hold something else.
        changed: by the name of a JSON file without its ending, keys that are changed; None takes one out.
    """
    folder.mkdir(parents=True)
    for file in (ZOO / model).iterdir():
        if file.name in without:
            continue
        if file.name.endswith(".safetensors"):
            (folder / file.name).symlink_to(file)
        else:
            shutil.copy(file, folder)
    for name, keys in changed.items():
        edited = folder / f"{name}.json"
        content = json.loads(edited.read_text()) | keys
        edited.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    for name, content in (files or {}).items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def random_model(folder: Path, kind: str, config: str, **options: object) -> Path:
    """A tiny random model of Transformers with the tokenizer of tiny-llama."""
    import torch
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, kind)(getattr(transformers, config)(**options)).save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(ZOO / "tiny-llama" / name, folder)
    return folder


def weights(model: str = "tiny-llama") -> bytes:
    """The safetensors file of a model of the zoo."""
    return (ZOO / model / WEIGHTS).read_bytes()


def header_only(content: bytes) -> bytes:
    """A safetensors file that ends behind its header."""
    (length,) = struct.unpack("<Q", content[:8])
    return content[: 8 + length]


def edited_json(model: str, name: str, change: Callable[[Any], Any]) -> str:
    """A JSON file of a model of the zoo after a change in place, or what the change gives."""
    content = json.loads((ZOO / model / name).read_text())
    changed = change(content)
    return json.dumps(content if changed is None else changed)
