"""What all quantizers share: their promise, their claims, and how a checkpoint's config becomes one of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pytest_llmopt.core.optimization import AccuracyLimits, Optimization, Promise
from pytest_llmopt.optimizations.quantization._weight_claims import weight_claims

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.claims import Claim, Use
    from pytest_llmopt.core.figures import Figures
    from pytest_llmopt.core.weight_format import WeightFormat


@dataclass(frozen=True)
class Quantizer(Optimization):
    """Linear layers in fewer bits; a subclass says how, what it promises, and what it may cost."""

    promise: ClassVar[Promise] = Promise.ACCURATE
    config_names: ClassVar[Mapping[str, str]] = {}
    """By option, its name in the `quantization_config` of a checkpoint, where that is another."""
    loading_options: ClassVar[frozenset[str]] = frozenset()
    """Options that no checkpoint decides, such as the kernel to run it with."""

    @property
    def conflicts(self) -> Mapping[str, str]:
        """No other quantizer."""
        return {"quantization": "a model is quantized once"}

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """What these options may cost."""
        raise NotImplementedError

    @property
    def bytes_per_weight(self) -> float:
        """Held for each weight of the body, scales included, in a model of 16 bits."""
        raise NotImplementedError

    @property
    def scale_bytes_per_weight(self) -> float:
        """Of these, what scales in the model's own dtype take: twice as much in 32 bits."""
        return 0.0

    @property
    def activations(self) -> str | None:
        """What activations are rounded to while it runs, such as `int8`."""
        return None

    @property
    def weight_format(self) -> WeightFormat | None:
        """What each projection computes with, for it to be held to; None where no format describes it."""
        return None

    @property
    def figures(self) -> Figures:
        """Bits of a weight's code, and the weights that share a scale or what does, as far as the options say."""
        form = self.weight_format
        bits, group = (form.bits, form.group_size) if form else (getattr(self, n, None) for n in ("bits", "group_size"))
        first = group[0] if isinstance(group, tuple) else group
        told = {"bits": bits, "group": "channel" if first == -1 else first}
        return {name: value for name, value in told.items() if value is not None}

    def claims(self, use: Use) -> Sequence[Claim]:
        """Projections packed as promised, at a price that can be seen."""
        wider = self.scale_bytes_per_weight if use.dtype == "float32" else 0.0
        return weight_claims(use, self.bytes_per_weight + wider, form=self.weight_format)

    @classmethod
    def described_by(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """The method with the options that a checkpoint's `quantization_config` states, and further ones for loading.

        Raises:
            OptionError: the config has a value that this method does not know.
        """
        stated = {item.name: cls.config_names.get(item.name, item.name) for item in dataclasses.fields(cls)}
        known = {name: config[key] for name, key in stated.items() if key in config}
        return cls(**{**known, **options})


def refuse_saving(model: Any, why: str) -> None:
    """Let nothing be saved that could not be loaded again."""

    def save_pretrained(*_args: object, **_options: object) -> None:
        raise NotImplementedError(why)

    model.save_pretrained = save_pretrained


def plain_name(quant_method: str) -> str:
    """A method as our files are named."""
    return quant_method.rpartition(".")[2].lower().replace("-", "_")
