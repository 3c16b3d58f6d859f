"""What a quantizer promises of the linear layers that it replaces, so that each of them can be held to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

Codes: TypeAlias = Literal["symmetric", "asymmetric", "affine", "fitted", "nf4", "fp4", "fp8_e4m3"]


@dataclass(frozen=True)
class WeightFormat:
    """How weights are rounded, and what happens to activations on their way through the layer."""

    bits: int
    codes: Codes = "symmetric"
    """How integers become weights, or whose levels they are.

    With the zero point in the middle; with a code as the zero point of each scale; with a real offset to each scale,
    which is the least weight, or fitted to the weights; or the levels of a code book.
    """
    group_size: int | tuple[int, ...] | Literal["channel", "tensor"] = "channel"
    """Inputs that share a scale; of several sizes the first that divides the inputs, and where none does, one scale for
    each output channel; or that from the beginning, or one for all."""
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
        groups = self.group_size[0] if isinstance(self.group_size, tuple) else self.group_size
        scale = f"in groups of {groups}" if isinstance(groups, int) else f"per {groups}"
        order = ", act-order" if self.act_order else ""
        return f"{self.bits}-bit {self.codes} {scale}{order}" + (
            f", {self.activations} activations" if self.activations else ""
        )

    def group_of(self, inputs: int) -> int:
        """The inputs that share a scale in a projection that has so many: all of them where there are no groups."""
        if isinstance(self.group_size, int):
            return self.group_size
        sizes = self.group_size if isinstance(self.group_size, tuple) else ()
        return next((size for size in sizes if inputs % size == 0), inputs)


@runtime_checkable
class HasWeightFormat(Protocol):
    """A quantizer that says which format its weights have, which may depend on its options."""

    @property
    def weight_format(self) -> WeightFormat | None:
        """The format, or None where these options cannot be held to one."""
        ...
