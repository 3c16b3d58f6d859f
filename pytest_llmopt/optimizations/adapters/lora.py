"""LoRA adapters through PEFT, beside the weights or merged into them; over a 4-bit base this is QLoRA."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.errors import ModelError, OptionError
from pytest_llmopt.core.loading import locate
from pytest_llmopt.core.model_files import check_adapter
from pytest_llmopt.core.optimization import LoadPlan, Optimization, Promise
from pytest_llmopt.core.quoting import explained, quoted
from pytest_llmopt.core.requirements import Package, Requirement
from pytest_llmopt.core.sources import place_of
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.claims import Use
    from pytest_llmopt.core.loading import LoadPolicy

__all__ = ["Lora"]

UNNAMED = "lora needs adapter=, the folder or hub id of a PEFT adapter"
COMPARE = "compare its adapter_config.json with the base that it was trained on, or export it again"
NAMED = 3
"""Tensors of each kind that a message names."""


@dataclass(frozen=True)
class Lora(Optimization):
    """An adapter on top of a base, quantized or not; merged or not, it is the same function.

    Compare it `against(llmopt.lora(adapter))`: the plain model lacks what the adapter has learned.
    """

    promise: ClassVar[Promise] = Promise.EQUIVALENT

    adapter: str = ""
    """Folder or hub id of a PEFT adapter; `{model}` in it is the model under test."""
    merged: bool = False
    """Add it to the weights, as `merge_and_unload` does. A quantized base is rounded again, and so changes."""
    dequantize: bool = False
    """Give a quantized base its full width first: a merge then rounds nothing again, and no packed kernel runs."""

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library."""
        return (Package("peft>=0.18", install="pip install 'pytest-llmopt[peft]'"),)

    def claims(self, use: Use) -> Sequence[Claim]:
        """The adapter runs beside its layers, or is gone after the merge."""
        tolerance = Tolerance(at_most=0) if self.merged else Tolerance(at_least=1)
        wrong = (
            "still run beside their adapter, which was to be merged" if self.merged else "have an adapter: none does"
        )
        return [
            Claim(
                "adapted_modules",
                Metric(Estimate.exact(use.inspection.adapted_modules), tolerance, "modules"),
                f"modules {wrong}",
            )
        ]

    def precheck(self, model: str, policy: LoadPolicy) -> None:  # noqa: ARG002 - every optimization is told
        """Refuse an adapter that is not there, or whose folder is broken.

        Raises:
            OptionError: no adapter is named.
            ModelError: says what is wrong with it.
        """
        if not self.adapter:
            raise OptionError(UNNAMED)
        folder = place_of(self.adapter, policy, "adapter")
        if folder is not None:
            check_adapter(folder, self.adapter, policy)

    def for_transformers(self, plan: LoadPlan) -> None:
        """Load the adapter once the base is there.

        Raises:
            OptionError: no adapter is named.
        """
        if not self.adapter:
            raise OptionError(UNNAMED)
        plan.after_load.append(lambda model: self._apply(model, plan))

    def _apply(self, model: Any, plan: LoadPlan) -> None:
        from peft import PeftModel

        if self.dequantize:
            if getattr(model, "hf_quantizer", None) is None:
                msg = "dequantize=True has nothing to do: the base is not quantized by Transformers"
                raise OptionError(msg)
            model.dequantize(model.dtype)
        adapter = locate(self.adapter)
        given = {} if Path(adapter).is_dir() else {"local_files_only": not plan.policy.download}
        safe = {} if plan.policy.unsafe_weights else {"use_safetensors": True}
        # PEFT puts its layers into the model that it is given; the wrapper around it is not needed.
        with explained(f"the adapter {quoted(self.adapter)} cannot be put on {quoted(plan.model)}", COMPARE):
            adapted = PeftModel.from_pretrained(model, adapter, **given, **safe)
            # Once more for what it found, which the line above keeps to itself.
            found = adapted.load_adapter(adapter, "default", **given, **safe)
        _refuse_incomplete(self.adapter, found)
        # Fresh adapters are zero on one side and change nothing: a comparison with one would show nothing.
        sizes = [float(part.abs().max()) for name, part in model.named_parameters() if ".lora_B." in name]
        if not sizes or max(sizes) == 0:
            msg = (
                f"adapter {self.adapter!r} changes nothing: {len(sizes)} layers have it, and it is zero in all of them"
            )
            raise OptionError(msg)
        if self.merged:
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
