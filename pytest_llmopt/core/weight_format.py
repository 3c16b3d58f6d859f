"""What a quantizer promises of the linear layers that it replaces, so that each of them can be held to it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from pytest_llmopt.core.errors import OptionError

Codes: TypeAlias = Literal["symmetric", "asymmetric", "affine", "fitted", "nf4", "fp4", "fp8_e4m3", "levels"]


@dataclass(frozen=True)
class WeightFormat:
    """How weights are rounded, and what happens to activations on their way through the layer."""

    bits: int
    codes: Codes = "symmetric"
    """How integers become weights, or whose levels they are.

    With the zero point in the middle; with a code as the zero point of each scale; with a real offset to each scale,
    which is the least weight, or fitted to the weights; or the levels of a code book, which are those of a known type
    or given as `levels`.
    """
    group_size: int | tuple[int, ...] | Literal["channel", "tensor"] = "channel"
    """Inputs that share a scale; of several sizes the first that divides the inputs, and where none does, one scale for
    each output channel; or that from the beginning, or one for all.
    """
    act_order: bool = False
    """Groups are not made of neighbors but of inputs with similar activations (GPTQ's `desc_act`)."""
    calibrated: bool = False
    """Weights are chosen for the error of the output on some text (GPTQ), so they may be further from the original."""
    activations: Literal["int8", "fp8_e4m3"] | None = None
    """What activations are rounded to while it runs; None keeps them."""
    computes_in: str | None = None
    """The dtype of scales and products, where it is coarser than the model's."""
    kept: tuple[str, ...] = ()
    """Projections beside the head that stay as they are, as shell patterns of their names."""
    flattened: bool = False
    """Groups of `group_size` run over the flattened matrix, row after row, and cross rows that they do not divide
    (bitsandbytes' 4-bit blocks)."""
    nested_scales: bool = False
    """Scales are held in 8 bits themselves, with a scale for each 256 of them (bitsandbytes' `double_quant`)."""
    activation_scales: Literal["token", "tensor"] = "token"
    """What shares a scale of activations: each token has its own, or all tokens of a batch have one, found anew.

    With one for the batch, what a token gets depends on its company by design, and is not held against the candidate.
    """
    rescaled: bool = False
    """Inputs were multiplied by a factor each before rounding, which a norm or another projection undoes (AWQ,
    SmoothQuant). The factors are found from the weights."""
    levels: tuple[float, ...] = ()
    """With `codes="levels"`: the values of the code book, ascending, in any unit. The scale of a group makes the level
    of the largest magnitude its largest weight."""

    def __post_init__(self) -> None:
        """Refuse words that contradict each other.

        Raises:
            OptionError: a code book without ascending levels, levels without their code book, or flattened groups of no
                fixed size.
        """
        ascending = all(low < high for low, high in itertools.pairwise(self.levels))
        if (self.codes == "levels") != bool(self.levels) or not ascending:
            msg = f"codes={self.codes!r} with levels={self.levels!r}; give codes='levels' and its values, ascending"
            raise OptionError(msg)
        if self.flattened and not isinstance(self.group_size, int):
            msg = f"flattened groups have one size, and group_size={self.group_size!r}; give an integer"
            raise OptionError(msg)

    @property
    def depends_on_batch(self) -> bool:
        """Whether a token's activations are rounded by a scale that others of its batch share."""
        return self.activations is not None and self.activation_scales == "tensor"

    def keeps(self, name: str) -> bool:
        """Whether a projection is one that stays as it is; the head, which always does, aside."""
        return any(fnmatchcase(name, pattern) for pattern in self.kept)

    @property
    def label(self) -> str:
        """In words, such as `4-bit symmetric in groups of 32, int8 activations`."""
        groups = self.group_size[0] if isinstance(self.group_size, tuple) else self.group_size
        scale = f"in groups of {groups}" if isinstance(groups, int) else f"per {groups}"
        codes = "code book" if self.codes == "levels" else self.codes
        order = ", act-order" if self.act_order else ""
        return f"{self.bits}-bit {codes} {scale}{order}" + (
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
