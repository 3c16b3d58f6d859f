"""A GGUF file, which Transformers unpacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier, load_produced
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.optimizations.quantization import _gguf_file
from pytest_llmopt.optimizations.quantization._unpacked import ON_GRID, STORED

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _load(options: Any, plan: LoadPlan) -> None:
    """With the configuration of the model under test: Transformers reads no soft-capping from a file."""
    from transformers import AutoConfig

    file = Path(options.file) if options.file else Path(str(plan.weights)) / _gguf_file.NAME
    if options.file and options.quant_type not in {None, found := _gguf_file.type_of(file)}:
        msg = f"quant_type={options.quant_type!r} is asked for, but most of {options.file} is {found}"
        raise OptionError(msg)
    config = AutoConfig.from_pretrained(plan.model, local_files_only=not plan.policy.download)
    plan.set("load", "gguf_file", file.name, by="gguf")
    plan.set("load", "config", config, by="gguf")
    plan.after_load.append(lambda model: _gguf_file.refuse_left_over(model, file))
    plan.measure[STORED] = lambda model: _gguf_file.stored_bytes_per_weight(model, file)
    plan.measure[ON_GRID] = lambda model: _gguf_file.as_decoded(model, file)


applier = Applier(load_produced(_load), _load)
