"""An adapter put on the loaded base by PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier
from pytest_llmopt.core.errors import ModelError, OptionError
from pytest_llmopt.core.loading import locate
from pytest_llmopt.core.quoting import explained, quoted
from pytest_llmopt.optimizations.adapters.lora import COMPARE, NAMED, UNNAMED

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Load the adapter once the base is there.

    Raises:
        OptionError: no adapter is named.
    """
    if not options.adapter:
        raise OptionError(UNNAMED)
    plan.after_load.append(lambda model: _put_on(options, model, plan))


def _put_on(options: Any, model: Any, plan: LoadPlan) -> None:
    from peft import PeftModel

    if options.dequantize:
        if getattr(model, "hf_quantizer", None) is None:
            msg = "dequantize=True has nothing to do: the base is not quantized by Transformers"
            raise OptionError(msg)
        model.dequantize(model.dtype)
    adapter = locate(options.adapter)
    given = {} if Path(adapter).is_dir() else {"local_files_only": not plan.policy.download}
    safe = {} if plan.policy.unsafe_weights else {"use_safetensors": True}
    # PEFT puts its layers into the model that it is given; the wrapper around it is not needed.
    with explained(f"the adapter {quoted(options.adapter)} cannot be put on {quoted(plan.model)}", COMPARE):
        adapted = PeftModel.from_pretrained(model, adapter, **given, **safe)
        # Once more for what it found, which the line above keeps to itoptions.
        found = adapted.load_adapter(adapter, "default", **given, **safe)
    _refuse_incomplete(options.adapter, found)
    # Fresh adapters are zero on one side and change nothing: a comparison with one would show nothing.
    sizes = [float(part.abs().max()) for name, part in model.named_parameters() if ".lora_B." in name]
    if not sizes or max(sizes) == 0:
        msg = f"adapter {options.adapter!r} changes nothing: {len(sizes)} layers have it, and it is zero in all of them"
        raise OptionError(msg)
    if options.merged:
        adapted.merge_and_unload()
    else:
        _save_base_alone(model)


def _refuse_incomplete(adapter: str, found: Any) -> None:
    """Accept an adapter of which every tensor has its place, and every place its tensor.

    Raises:
        ModelError: naming those that have not.
    """
    kinds = {
        "missing from its file, so newly initialized": sorted(found.missing_keys),
        "in its file, but nowhere in the model": sorted(found.unexpected_keys),
    }
    parts = [f"{len(names)} tensors are {what} ({', '.join(names[:NAMED])})" for what, names in kinds.items() if names]
    if parts:
        msg = (
            f"adapter {adapter!r} does not fit this model: {'; '.join(parts)}. Compare its target modules and "
            "the number of layers with the base that it was trained on, and export it again"
        )
        raise ModelError(msg)


def _save_base_alone(model: Any) -> None:
    """Let the base be saved as it is without its adapter, which lies in a folder of its own and is put on again."""
    save = model.save_pretrained

    def save_pretrained(*args: Any, **options: Any) -> None:
        adapted = {
            name: inner
            for name, module in model.named_modules()
            if (inner := getattr(module, "base_layer", getattr(module, "original_module", None))) is not None
        }
        outer = {name: model.get_submodule(name) for name in adapted}
        try:
            for name, module in adapted.items():
                model.set_submodule(name, module)
            save(*args, **options)
        finally:
            for name, module in outer.items():
                model.set_submodule(name, module)

    model.save_pretrained = save_pretrained


applier = Applier(_apply)
