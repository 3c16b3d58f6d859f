"""How an engine applies an optimization: neither knows the other by name.

Looked for in this order: a method `for_<engine>(self, plan)` of the optimization, by which one of another package
reaches an engine of ours in one file; an applier, of the engine's own table or else registered as
`<engine>.<optimization>`, under the name of the optimization or of what it derives from; and where there is none, for
an optimization that produces a checkpoint which the engine loads, that the engine loads it.

The class of an engine may say so in two attributes: `loads`, the optimizations whose checkpoints it loads, and
`appliers`, its table by the name of the optimization.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pytest_llmopt.core.errors import CombinationError, ModelError
from pytest_llmopt.core.registry import PACKAGE, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from pytest_llmopt.core.loading import LoadPolicy

HOME = f"{PACKAGE}.optimizations."


@dataclass
class ModelSource:
    """What an engine is about to load: as much as a producer of a checkpoint has to know. Engines add their own."""

    model: str
    """Folder or hub id of the model under test; its tokenizer serves both sides."""
    dtype: str
    device: str
    policy: LoadPolicy
    weights: str | None = None
    """Folder or hub id of a checkpoint to load instead of the model's own."""
    weights_file: str = ""
    """The file in that folder, for a format that is one file, such as GGUF."""
    costs: dict[str, float] = field(default_factory=dict)
    """What was done before loading, now or in an earlier run, and what it took: `quantize_s`."""


@dataclass(frozen=True)
class Produced:
    """A checkpoint that an optimization made, or was told of."""

    folder: str
    """Or the hub id of one that somebody else made."""
    costs: dict[str, float] = field(default_factory=dict)
    """What it took, now or in an earlier run: `quantize_s`."""
    file: str = ""
    """The file in the folder, for a format that is one file, such as GGUF."""


@runtime_checkable
class Produces(Protocol):
    """An optimization that makes a checkpoint, for any engine that loads its format.

    It is of the format that its own name or what it derives from stands for in `loads`, unless it has `produces`: the
    names of the optimizations whose checkpoints it makes, empty where it makes none with these options.
    """

    def produce(self, source: ModelSource) -> Produced | None:
        """The checkpoint of a model, kept in the cache once it is made; None where the model is one itself.

        Raises:
            OptionError: the model is quantized already, by another method.
        """
        ...


def _nothing(_options: object, _plan: object) -> None:
    """What needs no more."""


@dataclass(frozen=True)
class Applier:
    """How one engine applies one optimization."""

    apply: Callable[[Any, Any], None]
    """Gets the options and the engine's plan, and adds to it."""
    load: Callable[[Any, Any], None] = _nothing
    """The same, for a checkpoint of that method which somebody else made: what it leaves open, such as the kernel."""


NO_APPLIERS: Mapping[str, Applier] = MappingProxyType({})


def can_apply(
    engine: str,
    name: str,
    options: object,
    loads: Collection[str] = (),
    appliers: Mapping[str, Applier] = NO_APPLIERS,
) -> bool:
    """Whether an engine can apply an optimization. Imports no library.

    Args:
        engine: its registered name.
        name: that the optimization is registered under.
        options: the optimization.
        loads: the optimizations whose checkpoints the engine loads.
        appliers: the engine's own, by the name of the optimization.
    """
    if hasattr(options, f"for_{engine}") or _own(name, options, appliers) is not None:
        return True
    return _registered(engine, name, options) is not None or _is_loaded(name, options, loads)


def apply(
    engine: str,
    name: str,
    options: object,
    plan: Any,
    loads: Collection[str] = (),
    appliers: Mapping[str, Applier] = NO_APPLIERS,
) -> None:
    """Let an optimization add to the plan of an engine.

    Args:
        engine: its registered name.
        name: that the optimization is registered under.
        options: the optimization.
        plan: what the engine is about to load: a `ModelSource`, or more.
        loads: the optimizations whose checkpoints the engine loads.
        appliers: the engine's own, by the name of the optimization.

    Raises:
        CombinationError: the engine cannot apply it.
        LlmoptError: whatever is wrong with the options.
    """
    own = getattr(options, f"for_{engine}", None)
    table = _own(name, options, appliers)
    if own is not None:
        own(plan)
    elif table is not None:
        table.apply(options, plan)
    elif _registered(engine, name, options) is not None or not _is_loaded(name, options, loads):
        apply_inherited(engine, options, plan, name)
    else:
        load_produced(_nothing)(options, plan)
        if not _is_loaded(name, options, loads):  # it had to be fetched first
            msg = f"{name} is a checkpoint that engine {engine!r} does not load; it loads: {', '.join(sorted(loads))}"
            raise CombinationError(msg)


def apply_inherited(engine: str, options: object, plan: Any, name: str = "") -> None:
    """As the engine applies what an optimization derives from: for a method `for_<engine>` that adds to that.

    Raises:
        CombinationError: it derives from nothing that the engine can apply.
    """
    found = _registered(engine, name, options)
    if found is None:
        msg = f"{name or type(options).__name__} cannot run on engine {engine!r}"
        raise CombinationError(msg)
    _applier(found).apply(options, plan)


def load_checkpoint(engine: str, options: object, plan: Any) -> None:
    """Add what a checkpoint of a method leaves open, where the engine has anything to say to that."""
    found = _registered(engine, "", options)
    if found is not None:
        _applier(found).load(options, plan)


def load_produced(then: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """An applier's function that has the produced checkpoint loaded, and then adds what it leaves open."""

    def apply_(options: Any, plan: Any) -> None:
        produced: Produced | None = options.produce(plan)
        if produced is not None:
            plan.weights, plan.weights_file = produced.folder, produced.file
            plan.costs |= produced.costs
        then(options, plan)

    return apply_


def engines_that_can(name: str, options: object) -> list[str]:
    """The engines with an applier or a method for an optimization."""
    methods = [item.removeprefix("for_") for item in dir(options) if item.startswith("for_")]
    ends = [f".{item}" for item in _names(name, options)]
    appliers = [item.partition(".")[0] for item in _appliers().names() if any(item.endswith(end) for end in ends)]
    return sorted({*methods, *appliers})


def _is_loaded(name: str, options: object, loads: Collection[str]) -> bool:
    """Whether the engine loads what an optimization produces, as far as can be told before it is there."""
    if not loads or not isinstance(options, Produces):
        return False
    try:
        told = getattr(options, "produces", None)
    except ModelError:
        return True  # a checkpoint that is not here, or is broken: producing it says which
    return any(item in loads for item in (_names(name, options) if told is None else told))


def _own(name: str, options: object, appliers: Mapping[str, Applier]) -> Applier | None:
    """The engine's own applier for an optimization, or for what it derives from."""
    return next((appliers[item] for item in _names(name, options) if item in appliers), None) if appliers else None


def _registered(engine: str, name: str, options: object) -> str | None:
    """The name of the applier for an optimization, or for what it derives from."""
    known = _appliers().names()
    return next((full for item in _names(name, options) if (full := f"{engine}.{item}") in known), None)


def _names(name: str, options: object) -> list[str]:
    """The registered name of an optimization, then those of ours that it derives from, by where they are defined."""
    homes = [kind.__module__.removeprefix(HOME) for kind in type(options).__mro__ if kind.__module__.startswith(HOME)]
    return list(dict.fromkeys([*([name] if name else []), *(home.replace("._", ".") for home in homes)]))


@functools.cache
def _appliers() -> Registry:
    return Registry("appliers", "applier")


def _applier(name: str) -> Applier:
    found: Applier = _appliers().load(name)
    return found
