"""LoRA adapters through PEFT, beside the weights or merged into them; over a 4-bit base this is QLoRA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.model_files import check_adapter
from pytest_llmopt.core.optimization import Optimization, Promise
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
