"""What a quantizer promises of the linear layers that it replaces, so that each of them can be held to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

Codes: TypeAlias = Literal["symmetric", "asymmetric", "nf4", "fp4", "fp8_e4m3"]


@dataclass(frozen=True)
class WeightFormat:
    """How weights are rounded, and what happens to activations on their way through the layer."""

    bits: int
    codes: Codes = "symmetric"
    """Integers with the zero point in the middle, integers with one for each scale, or the levels of a code book."""
    group_size: int | Literal["channel", "tensor"] = "channel"
    """Inputs that share a scale; or one scale for each output channel, or for all."""
    act_order: bool = False
    """Groups are not made of neighbors but of inputs with similar activations (GPTQ's `desc_act`)."""
    calibrated: bool = False
    """Weights are chosen for the error of the output on some text (GPTQ), so they may be further from the original."""
    activations: Literal["int8", "fp8_e4m3"] | None = None
    """What each token's activations are rounded to, by a scale of its own; None keeps them."""
    computes_in: str | None = None
    """The dtype of scales and products, where it is coarser than the model's."""
    kept: tuple[str, ...] = ()
    """Projections beside the head that stay as they are, as shell patterns of their names."""

    @property
    def label(self) -> str:
        """In words, such as `4-bit symmetric in groups of 32, int8 activations`."""
        scale = f"in groups of {self.group_size}" if isinstance(self.group_size, int) else f"per {self.group_size}"
        order = ", act-order" if self.act_order else ""
        return f"{self.bits}-bit {self.codes} {scale}{order}" + (
            f", {self.activations} activations" if self.activations else ""
        )


@runtime_checkable
class HasWeightFormat(Protocol):
    """A quantizer that says which format its weights have, which may depend on its options."""

    @property
    def weight_format(self) -> WeightFormat | None:
        """The format, or None where these options cannot be held to one."""
        ...
