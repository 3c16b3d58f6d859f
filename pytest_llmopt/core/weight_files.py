"""Whether the weights in a folder can be loaded at all, from names, sizes and headers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import ModelError
from pytest_llmopt.core.quoting import quoted, said

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WHOLE = "model.safetensors"
INDEX = f"{WHOLE}.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
FOREIGN = {
    ".gguf": "a GGUF file of llama.cpp: name the folder of the model that it was made from, and give the file to "
    "quantized('gguf', file=...)",
    ".h5": "a file of TensorFlow: convert them to safetensors",
    ".msgpack": "a file of Flax: convert them to safetensors",
    ".onnx": "a file of ONNX: export the model with save_pretrained",
    ".npz": "a file of NumPy: convert them to safetensors",
}
"""Weights that Transformers does not load, by the ending of their files."""
NO_WEIGHTS = {"training_args.bin", "optimizer.bin", "scheduler.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"}
"""Files of a training run beside the weights."""
POINTER = b"version https://git-lfs"


def check_weights(folder: Path, what: str, *, unsafe: bool) -> None:
    """Accept a folder whose weights are where the library looks for them, and whole.

    Args:
        folder: of a model.
        what: the model with its name, for the message.
        unsafe: whether weights that are no safetensors may be loaded.

    Raises:
        ModelError: there are none, only pickles or those of another library, or a file is cut short.
    """
    if (folder / WHOLE).is_file():
        check_safetensors(folder / WHOLE, what)
    elif (folder / INDEX).is_file():
        for shard in _shards(folder / INDEX, what):
            check_safetensors(shard, what)
    elif not (unsafe and any((folder / name).is_file() for name in PICKLED)):
        raise ModelError(_none(folder, what, unsafe=unsafe))


def check_safetensors(file: Path, what: str) -> None:
    """Accept a file that is as long as its header says.

    Raises:
        ModelError: it is cut short, or no safetensors file.
    """
    try:
        wrong = _wrong_in(file)
    except PermissionError:
        wrong = "may not be read by this user: run chmod u+r on it"
    except OSError as error:
        wrong = f"cannot be read ({error.strerror}): download or copy it again"
    if wrong:
        msg = f"{file.name} of the {what} {wrong}"
        raise ModelError(msg)


def _wrong_in(file: Path) -> str:
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(len(POINTER))
        if start == POINTER:
            return "is a pointer of Git LFS and holds no weights: run git lfs pull in its folder"
        length = int.from_bytes(start[:8], "little")
        if size < 8 + length:
            return f"is cut short or no safetensors file ({size:,} bytes): download or copy it again"
        opened.seek(8)
        header = opened.read(length)
    try:
        ends = [tensor["data_offsets"][1] for name, tensor in json.loads(header).items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return "is no safetensors file, since its header is not JSON about tensors: download or export it again"
    if size != whole:
        return f"has {size:,} bytes where its header speaks of {whole:,}: download or copy it again"
    return "holds no tensor: export it again" if not ends else ""


def _shards(index: Path, what: str) -> list[Path]:
    """The files that an index names."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{INDEX} of the {what} is not JSON ({said(error)}); download or export it again"
        raise ModelError(msg) from error
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        msg = f"{INDEX} of the {what} has no weight_map from tensors to files; download or export it again"
        raise ModelError(msg)
    files = sorted({index.parent / name for name in names.values()})
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        msg = (
            f"{INDEX} of the {what} names {quoted(absent[0])}{more}, {'which are' if more else 'which is'} not there; "
            "download or copy the missing files, or export the model again"
        )
        raise ModelError(msg)
    return files


def _none(folder: Path, what: str, *, unsafe: bool) -> str:
    """Why a folder has no weights that can be loaded, and what to do."""
    files = sorted(path for path in folder.iterdir() if path.name not in NO_WEIGHTS)
    for file in files:
        if file.name in {WHOLE, INDEX}:
            found = "a folder" if file.is_dir() else "a link that leads nowhere"
            return f"{file.name} of the {what} is {found}; copy the file itself"
    if (folder / "adapter_config.json").is_file():
        return (
            f"the {what} is an adapter without its base; name the base, and put @llmopt.lora(adapter=...) on the test"
        )
    return _in_other_files(files, what, unsafe=unsafe)


def _in_other_files(files: Sequence[Path], what: str, *, unsafe: bool) -> str:
    """What there is in place of the weights that would be loaded."""
    pickles = [path.name for path in files if path.suffix in PICKLES]
    if pickles and unsafe:
        return f"the {what} has weights in {pickles[0]}, but only {PICKLED[0]} would be loaded; rename or export them"
    if pickles:
        return (
            f"the {what} has pickled weights only ({pickles[0]}), and these can run code when they are loaded; convert "
            "them to safetensors, or allow them with --llmopt-unsafe-weights"
        )
    other = [path.name for path in files if path.suffix == ".safetensors"]
    if other:
        return f"the {what} has no {WHOLE} and no {INDEX}, only {quoted(other[0])}; rename or export it again"
    for file in files:
        if file.suffix.lower() in FOREIGN:
            return f"the {what} has its weights in {quoted(file.name)}, {FOREIGN[file.suffix.lower()]}"
    return f"the {what} has no weights: no {WHOLE} and no {INDEX} in its folder; download or export them"
