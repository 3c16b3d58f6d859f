"""Checkpoints that differ from those of the zoo in one place: names, tensors, shards, or what stands beside them."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mutation import Mutant

from pytest_llmopt.core.loading import locate

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(".llmopt/mutation/checkpoints")


@dataclass
class Checkpoint:
    """What a folder of the library's own format holds; an edit changes it in place."""

    tensors: dict[str, Any]
    config: dict[str, Any]
    generation: dict[str, Any]
    tokenizer: dict[str, Any]
    shards: int = 1


def edited(model: str, name: str, edit: Callable[[Checkpoint], None]) -> str:
    """The folder of an edited copy of a model of the zoo, written once for each edit that differs."""
    from safetensors.torch import load_file

    source = Path(locate(model))
    content = Checkpoint(
        load_file(source / "model.safetensors"),
        *(json.loads((source / file).read_text("utf-8")) for file in ("config.json", "generation_config.json")),
        tokenizer=json.loads((source / "tokenizer.json").read_text("utf-8")),
    )
    edit(content)
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=FOLDER))
    shutil.copy(source / "tokenizer_config.json", made)
    _write(content, made)
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(made.iterdir()))).hexdigest()[:12]
    target = FOLDER / f"{name}-{digest}"
    try:
        made.replace(target)
    except OSError:  # another process, or an earlier run, has written the same
        shutil.rmtree(made)
    return str(target.resolve())


def _write(content: Checkpoint, folder: Path) -> None:
    from safetensors.torch import save_file

    parts = {"config.json": content.config, "generation_config.json": content.generation}
    for file, values in (parts | {"tokenizer.json": content.tokenizer}).items():
        (folder / file).write_text(json.dumps(values), encoding="utf-8")
    tensors = {name: tensor.clone().contiguous() for name, tensor in content.tensors.items()}
    if content.shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    places = {}
    for shard in range(content.shards):
        file = f"model-{shard + 1:05}-of-{content.shards:05}.safetensors"
        own = dict(list(tensors.items())[shard :: content.shards])
        save_file(own, folder / file, {"format": "pt"})
        places |= dict.fromkeys(own, file)
    index = {"metadata": {"total_size": sum(item.nbytes for item in tensors.values())}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


@dataclass(frozen=True)
class LoadsAnother(Mutant):
    """The candidate is loaded from an edited copy of the checkpoint; the reference from the zoo's own."""

    category: ClassVar[str] = "loading"

    def edit(self, checkpoint: Checkpoint) -> None:
        """Make the difference."""
        raise NotImplementedError

    def for_transformers(self, plan: Any) -> None:
        """Point the loader to the copy."""
        plan.weights = edited(self.models[0], type(self).__name__, self.edit)
