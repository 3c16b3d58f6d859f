"""torchao: int8 weights, with or without int8 activations, quantized while loading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pytest_llmopt.core.optimization import AccuracyLimits, LoadPlan, Optimization, Promise, one_of
from pytest_llmopt.core.requirements import Package, Requirement
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.optimizations.quantization._claims import product_claim, weight_claims

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.inspection import Claim, Use

__all__ = ["TorchAo"]

CONFIGS = {
    "int8_weight_only": "Int8WeightOnlyConfig",
    "int8_dynamic_activation": "Int8DynamicActivationInt8WeightConfig",
}


@dataclass(frozen=True)
class TorchAo(Optimization):
    """Linear layers with int8 weights, one scale per output channel."""

    promise: ClassVar[Promise] = Promise.ACCURATE

    scheme: str = "int8_weight_only"

    def __post_init__(self) -> None:
        """Refuse schemes that are not built yet."""
        one_of("scheme", self.scheme, tuple(CONFIGS))

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library; it runs on a CPU too."""
        return (Package("torchao>=0.15", install="pip install 'pytest-llmopt[torchao]'"),)

    @property
    def conflicts(self) -> Mapping[str, str]:
        """No other quantizer."""
        return {"quantization": "a model is quantized once"}

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """8 bits stay close to the original."""
        return AccuracyLimits(0.002, 0.97, 1.01, "torchao quantization README: int8 within noise of bf16 on wikitext")

    @property
    def activations(self) -> Literal["int8"] | None:
        """What activations are rounded to while it runs."""
        return "int8" if self.scheme == "int8_dynamic_activation" else None

    @property
    def weight_format(self) -> WeightFormat:
        """One scale for each output, none for zeros."""
        return WeightFormat(8, activations=self.activations)

    def claims(self, use: Use) -> Sequence[Claim]:
        """A byte a weight, a scale for each output channel, and the kernels of that format."""
        return [*weight_claims(use, 1.0), product_claim(use)]

    def for_transformers(self, plan: LoadPlan) -> None:
        """Quantize while loading."""
        from torchao import quantization
        from transformers import TorchAoConfig

        config = getattr(quantization, CONFIGS[self.scheme])()
        plan.set("load", "quantization_config", TorchAoConfig(config), by="torchao")
