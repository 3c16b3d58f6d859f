"""A tiny random copy of every causal language model that the installed Transformers knows.

    python benchmarks/architectures/models.py [TYPE ...] [--keep FOLDER]

Builds each in a process of its own, saves it, loads it again, and prints what came of it. No weights are downloaded and
none are trained: a copy has two to four layers of 64 channels, and weights spread so that each part matters. Sizes,
exceptions and what is left out stand in `sizes.py`.

Of the 189 types of Transformers 5.23, 180 are built, each in one to four seconds. All give the same logits after
loading; an entropy of 3 to 6 nats; and logits that feel every weight set to zero, but for key biases (a softmax does
not see them), towers for other input than text, cross-attention without an encoder, and parts that 48 tokens do not
reach: the compressors of `deepseek_v4`, the patcher of `blt`. `cpmant`, `xlm` and `xlnet` are not causal.
"""
# Transformers and torch leave some methods untyped:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sight import ROUNDING, Sight, look
from sizes import DEFAULT, EXCEPTIONS, LAYERS, LEFT_OUT, PATTERN_LAYERS, SIZES
from weights import spread_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
TOKENIZER = Path(__file__).parents[2] / "fixtures" / "models" / "tiny-llama"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
LARGEST = 8_000_000  # parameters
LAYER_COUNTS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
SECONDS = 120  # of CPU time for one copy, before it counts as failed


def catalogue() -> tuple[str, ...]:
    """The model types that a copy can be made of, as the config's `model_type` spells them, in order."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return tuple(name for name in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) if name not in LEFT_OUT)


def tiny_config(model_type: str) -> PreTrainedConfig:
    """The config of the copy: the type's own defaults, but for its sizes.

    Raises:
        ValueError: the type is unknown to the installed Transformers, or its config refuses the sizes.
    """
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        msg = f"no model type {model_type} in this Transformers; catalogue() lists the known ones"
        raise ValueError(msg)
    config_class: Any = CONFIG_MAPPING[model_type]
    return config_class(**_small(config_class(), EXCEPTIONS.get(model_type, {})))


def _small(default: PreTrainedConfig, exceptions: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a config that are not its defaults, nested configs included."""
    small = {}
    patterns = _patterns(default)
    for name, value in vars(default).items():
        if hasattr(value, "to_dict"):
            small[name] = _small(value, exceptions.get(name, {}))
        elif name in patterns:
            small[name] = patterns[name]
        elif name in SIZES and value is not None and not isinstance(value, bool | list | tuple | dict):
            small[name] = PATTERN_LAYERS if patterns and name in LAYER_COUNTS else SIZES[name]
    if "qk_rope_head_dim" in small:
        small.pop("head_dim", None)  # of latent attention: the config derives it from the rotated part,
        small["num_key_value_heads"] = small["num_attention_heads"]  # and each head expands a key of its own
    if "is_decoder" in vars(default):
        small["is_decoder"] = True  # an encoder such as BERT is causal only then
    nested = {name for name, value in small.items() if isinstance(value, dict)}
    small |= {name: value for name, value in exceptions.items() if name not in nested}
    return {name: value for name, value in small.items() if value is not DEFAULT}


def _patterns(default: PreTrainedConfig) -> dict[str, list[Any]]:
    """The lists with an entry for each layer, cut to four entries that hold each of their values if they can.

    Empty if all layers are of one kind.
    """
    count = next((value for name in LAYER_COUNTS if isinstance(value := getattr(default, name, None), int)), 0)
    lists = {
        name: list(value)
        for name, value in vars(default).items()
        if isinstance(value, list | tuple) and len(value) == count > LAYERS
    }
    kinds = {name: list(dict.fromkeys(value)) for name, value in lists.items()}
    if all(len(values) == 1 for values in kinds.values()):
        return {}
    return {name: (values * PATTERN_LAYERS)[:PATTERN_LAYERS] for name, values in kinds.items()}


def build(model_type: str, folder: Path, seed: int) -> Sight:
    """Save a tiny copy with seeded weights and the zoo's tokenizer into the folder, and say what it does there.

    Raises:
        ValueError: the copy is too large, its logits are not finite, or its saved files give other logits.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = tiny_config(model_type)
    with torch.device("meta"):
        size = sum(part.numel() for part in AutoModelForCausalLM.from_config(config).parameters())
    if size > LARGEST:
        msg = f"{model_type} has {size:,} parameters, {LARGEST:,} allowed; give its sizes in sizes.py"
        raise ValueError(msg)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).eval()
    before = spread_weights(model, seed)
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copyfile(TOKENIZER / name, folder / name)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    sight = look(loaded, before)
    if not sight.reload_error < ROUNDING:
        msg = f"{model_type}: saved and loaded, its logits differ by {sight.reload_error}"
        raise ValueError(msg)
    return sight


def attempt(model_type: str, folder: Path, seed: int) -> str:
    """One line: what a copy does, or why there is none."""
    began = time.perf_counter()
    try:
        sight = build(model_type, folder, seed)
    except Exception as error:  # noqa: BLE001  any library may fail in any way, and the table wants the reason
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        return f"{model_type} FAILED {type(error).__name__} at {place}: {' '.join(str(error).split())[:300]}"
    return f"{model_type} {json.dumps(asdict(sight))} in {time.perf_counter() - began:.1f} s"


def main() -> None:
    """Build the named types, or all, each in a process of its own."""
    import torch
    import transformers

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", metavar="TYPE", help="all by default")
    parser.add_argument("--keep", type=Path, help="folder for the copies; they are thrown away by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.AutoModelForCausalLM.from_config(tiny_config("llama"))  # imports once what every child needs
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    for model_type in arguments.types or catalogue():
        with tempfile.TemporaryDirectory() as scratch:
            child = os.fork()
            if child == 0:
                signal.setitimer(signal.ITIMER_PROF, SECONDS)  # CPU time: a busy machine is no failure
                print(attempt(model_type, (arguments.keep or Path(scratch)) / model_type, seed=0), flush=True)
                os._exit(0)
            _, status = os.waitpid(child, 0)
        if status:
            print(f"{model_type} FAILED: signal {status & 127} within {SECONDS} s of CPU time", flush=True)


if __name__ == "__main__":
    main()
