"""Quantizers that write a checkpoint, which is kept and loaded; most of them need calibration text."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pytest_llmopt.core.applying import ModelSource, Produced
from pytest_llmopt.core.errors import ModelError, OptionError
from pytest_llmopt.core.files import write_json
from pytest_llmopt.core.model_files import object_in
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.quoting import explained, quoted
from pytest_llmopt.core.values import Count
from pytest_llmopt.optimizations.quantization._prepared import digest_of_files, prepared
from pytest_llmopt.optimizations.quantization._quantizer import Quantizer, plain_name
from pytest_llmopt.optimizations.quantization._quiet import quietly, seeded

FETCH = "give a folder, or allow downloading with --llmopt-download"
PREPARATION = "llmopt-preparation.json"
"""Beside the checkpoint: how long it took to make, and the peak memory of the process that made it."""
ENOUGH = 32
"""Of the prompts that ship: with 8, 16, 32 and all 128 of them GPTQ of `tiny-llama` is equally close (docs)."""
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py")


@dataclass(frozen=True)
class CheckpointQuantizer(Quantizer):
    """Quantized once for each model, options and library versions, and kept as a checkpoint."""

    packages: ClassVar[tuple[str, ...]]
    """Distributions whose versions decide the result."""

    def produce(self, source: ModelSource) -> Produced | None:
        """The checkpoint of the cache, made first where it is missing; None where the model is such a one itself.

        Raises:
            OptionError: the model is quantized already, by another method.
        """
        method = type(self).__module__.rpartition(".")[2]
        folder = model_folder(source).absolute()
        if already := _quantized_by(folder):
            if already != method:
                msg = f"quantized({method!r}) is asked for, but {source.model} is quantized: quant_method={already!r}"
                raise OptionError(msg)
            return None
        decides = {key: value for key, value in dataclasses.asdict(self).items() if key not in self.loading_options}
        key = {
            "method": method,
            "options": decides | {"calibration": self.calibration_texts},
            "model": digest_of_files(folder),
            "dtype": source.dtype,
            "device": source.device,
            "versions": {name: importlib.metadata.version(name) for name in sorted({"torch", *self.packages})},
        }
        local = ModelSource(str(folder), source.dtype, source.device, source.policy)

        def make(empty: Path) -> None:
            started = time.monotonic()
            with quietly(f"{method}: quantizing {source.model}"), seeded():
                self.quantize(local, empty)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            write_json(empty / PREPARATION, {"seconds": time.monotonic() - started, "peak_rss_bytes": peak})

        name = f"{Path(source.model).name}-{method}"
        made = prepared(source.policy.cache.absolute() / "quantized", name, key, make)
        took = json.loads((made / PREPARATION).read_text(encoding="utf-8"))["seconds"]
        return Produced(str(made), {"quantize_s": took})

    def quantize(self, source: ModelSource, folder: Path) -> None:
        """Quantize the source's model, which is a local folder, and write the checkpoint into an empty one."""
        raise NotImplementedError

    @property
    def calibration_texts(self) -> list[str]:
        """What it looks at while it quantizes: nothing, unless it says otherwise."""
        return []


@dataclass(frozen=True)
class CalibratedQuantizer(CheckpointQuantizer):
    """Kept, and quantized with calibration text."""

    calibration: str = field(default="", kw_only=True)
    """JSON Lines file of calibration prompts; empty takes those that ship with the package."""
    num_prompts: Count | None = field(default=None, kw_only=True)
    """How many of them to use, the first ones; None takes all of a file that is given, and 32 of those that ship."""

    @property
    def calibration_prompts(self) -> PromptSet:
        """The text to calibrate with.

        Raises:
            OptionError: there are fewer prompts than asked for, or the file cannot be read.
        """
        file = calibration_file(self.calibration)
        if not file.is_file():
            msg = f"calibration={self.calibration!r} is not a file; give JSON Lines with a text in each"
            raise OptionError(msg)
        prompts = PromptSet.load(file)
        count = self.num_prompts or (len(prompts) if self.calibration else ENOUGH)
        if len(prompts) < count:
            msg = f"num_prompts={count} is not possible; {file} has {len(prompts)} prompts"
            raise OptionError(msg)
        return prompts.take(count)

    @property
    def calibration_texts(self) -> list[str]:
        """The text to calibrate with, one for each prompt."""
        return [prompt.text for prompt in self.calibration_prompts]


def calibration_file(chosen: str) -> Path:
    """The file of calibration prompts: the one chosen, or the one that ships with the package."""
    from pytest_llmopt.core.loading import fixtures_folder

    return Path(chosen) if chosen else fixtures_folder() / "prompts" / "calibration.jsonl"


def model_folder(source: ModelSource) -> Path:
    """The files of the model under test; fetched first where the policy allows that.

    Raises:
        ModelError: its weights are no safetensors, and loading others would execute what is in them.
    """
    folder = Path(source.model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        patterns = (*MODEL_FILES, "*.bin") if source.policy.unsafe_weights else MODEL_FILES
        offline = not source.policy.download
        with explained(f"the files of the model {quoted(source.model)} cannot be fetched", FETCH):
            folder = Path(snapshot_download(source.model, allow_patterns=list(patterns), local_files_only=offline))
    if not source.policy.unsafe_weights and not any(folder.glob("*.safetensors")):
        msg = f"{folder} has no safetensors; other weights can execute code: allow them with --llmopt-unsafe-weights"
        raise ModelError(msg)
    return folder


def _quantized_by(model: Path) -> str | None:
    """The method of a model's folder that is quantized already, as our files are named."""
    stated = object_in(model / "config.json", f"model {quoted(str(model))}").get("quantization_config")
    method = stated.get("quant_method") if isinstance(stated, dict) else None
    return None if method is None else plain_name(str(method))
