"""What an optimization is: a frozen dataclass whose fields are its options."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, TypeVar

from pytest_llmopt.core.errors import LlmoptError, OptionError
from pytest_llmopt.core.text import shown
from pytest_llmopt.core.values import (
    Length,
    NonNegative,
    Positive,
    Share,
    fit_fields,
    fit_options,
    nearest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.requirements import Requirement


class Promise(StrEnum):
    """What an optimization claims to keep, and so which checks it gets."""

    EQUIVALENT = "equivalent"
    """The same function by other arithmetic: caches, compilation, attention kernels. Tokens are drawn as before."""
    LOSSLESS = "lossless"
    """The same function, and tokens drawn by other means from the same distribution: speculation, other samplers."""
    ACCURATE = "accurate"
    """Close to the original, at a stated price: quantized weights, activations, caches."""


class Optimization(Protocol):
    """One optimization with its options; every option is a dataclass field with a default.

    It knows no engine: `core.applying` says how one applies it, a method `for_<engine>(self, plan)` among other ways.
    Values are checked in `__post_init__`, which raises `OptionError`. A class may inherit from
    this one for the defaults of what it has none of, or just have the same members.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    promise: ClassVar[Promise]

    @property
    def conflicts(self) -> Mapping[str, str]:
        """Other optimizations (`family.name`, or a whole `family`) that cannot be stacked with it, and why."""
        return {}

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """What must be installed or plugged in before it can be loaded."""
        return ()

    @property
    def declared(self) -> frozenset[str]:
        """Facts beside the weights that it changes on purpose, of `core.checkpoint.FACTS`, such as `context_length`."""
        return frozenset()

    @property
    def brings_weights(self) -> bool:
        """Whether it loads a checkpoint of its own, so that the weights of the model under test may be absent."""
        return False

    def precheck(self, model: str, policy: LoadPolicy) -> None:
        """Refuse what can be seen to fail before a library is imported: files that are absent, names of nothing.

        Asked of every variant of a run before its first test, so it must take no time where all is well.

        Args:
            model: folder or hub id of the model under test.
            policy: what may be loaded.

        Raises:
            ModelError: what it brings along cannot be loaded.
            OptionError: an option names what does not exist.
        """


Built = TypeVar("Built")


@dataclass(frozen=True)
class AccuracyLimits:
    """What an optimization that promises to be accurate may cost, and where these limits come from."""

    kl_divergence: NonNegative
    """Most mean KL(reference || candidate), in nats per token."""
    top1_agreement: Share
    """Least share of positions where both sides prefer the same token."""
    perplexity_ratio: Positive
    """Most perplexity of the candidate over that of the reference."""
    source: Annotated[str, Length(0)]
    worst_prompt_factor: Positive = 5.0
    """Most mean KL of one prompt on one path, over `kl_divergence`. Of eight honest weight quantizers on three families
    of tiny models (24 prompts each, 16 positions or more) the worst prompt was at most 4.2 times the mean of all."""

    def __post_init__(self) -> None:
        """Refuse limits that nothing can be judged by: NaN, infinity, shares beyond 1. A source may be empty."""
        fit_fields(self)


class Lossy(Optimization, Protocol):
    """An optimization that promises accuracy, at a price that it states."""

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """The price, for these options."""
        ...


def options_of(kind: Any) -> list[dataclasses.Field[Any]]:
    """The options of an optimization or its class in the order of a marker's arguments: keyword-only ones come last."""
    return sorted(dataclasses.fields(kind), key=lambda item: item.kw_only is True)


def build(kind: type[Built], name: str, args: tuple[object, ...], options: Mapping[str, object]) -> Built:
    """An optimization from the arguments of a marker: positional ones fill the fields in order.

    Raises:
        OptionError: an option that it does not have (names the ones it has), or a value that it refuses.
    """
    known = [item.name for item in options_of(kind)]
    if len(args) > len(known):
        msg = f"{name} takes at most {len(known)} options ({', '.join(known) or 'none'}), got {len(args)}"
        raise OptionError(msg)
    values = dict(zip(known, args, strict=False))
    for key, value in options.items():
        if key not in known:
            msg = f"{name} has no option {shown(key)}; {nearest(key, known)}options: {', '.join(known) or 'none'}"
            raise OptionError(msg)
        if key in values:
            msg = f"{name} got {key!r} twice"
            raise OptionError(msg)
        values[key] = value
    try:
        return kind(**fit_options(kind, values))
    except LlmoptError as error:
        msg = f"{name}: {error}"
        raise OptionError(msg) from None
    except TypeError as error:
        msg = f"{name}: {str(error).replace(f'{kind.__name__}.__init__() ', '')}"
        raise OptionError(msg) from None
    except Exception as error:
        # What `__post_init__` of another package raises for a value that it does not take.
        msg = f"{name} does not take {', '.join(f'{key}={shown(value)}' for key, value in values.items())}: {error!r}"
        raise OptionError(msg) from error


def one_of(option: str, value: object, allowed: tuple[object, ...]) -> None:
    """Refuse a value that is not among the allowed ones.

    Raises:
        OptionError: naming the option, the value received and the allowed ones.
    """
    if not any(type(own) is type(value) and own == value for own in allowed):  # 4.0 is not 4, and True is not 1
        msg = f"{option}={shown(value)} is not possible; allowed: {', '.join(map(repr, allowed))}"
        raise OptionError(msg)
