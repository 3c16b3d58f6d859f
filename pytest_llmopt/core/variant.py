"""What is under test: a model, how it is run, and the optimizations stacked on it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import NO_APPLIERS, can_apply, engines_that_can
from pytest_llmopt.core.errors import CombinationError, OptionError
from pytest_llmopt.core.optimization import build, options_of
from pytest_llmopt.core.written import home_of, kind_at, read, written

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pytest_llmopt.core.applying import Applier
    from pytest_llmopt.core.optimization import Optimization, Promise
    from pytest_llmopt.core.requirements import Requirement

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True)
class Applied:
    """One optimization of a variant: the name it is registered under and its options."""

    name: str
    """`family.name`, such as `quantization.bitsandbytes`."""
    options: Optimization

    @property
    def family(self) -> str:
        """The family, such as `quantization`."""
        return self.name.partition(".")[0]

    @property
    def short_name(self) -> str:
        """The name without its family, as markers and reports write it."""
        return self.name.partition(".")[2]

    @property
    def label(self) -> str:
        """The short name with its first option, where that is a name or a number, and all that are not the default."""
        changed = [
            f"{item.name}={value}"
            for place, item in enumerate(options_of(self.options))
            if (value := getattr(self.options, item.name)) != item.default or (not place and _says_which(value))
        ]
        return f"{self.short_name}({', '.join(changed)})" if changed else self.short_name

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: its name, where its class was defined, and its options.

        Raises:
            OptionError: an option is no plain data.
        """
        fields = [item.name for item in options_of(self.options) if item.init]
        options = {name: getattr(self.options, name) for name in fields}
        given = {name: written(value, f"{self.name}: {name}") for name, value in options.items()}
        return {"name": self.name, "home": home_of(type(self.options)), "options": given}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Applied:
        """What `to_json` wrote.

        Raises:
            OptionError: its class cannot be found, or does not take the options.
        """
        kind = kind_at(content["name"], content["home"])
        options = {name: read(value) for name, value in content["options"].items()}
        return cls(content["name"], build(kind, content["name"], (), options))


@dataclass(frozen=True)
class Variant:
    """A frozen, hashable description of one side of a comparison. Loads nothing."""

    model: str
    optimizations: tuple[Applied, ...] = ()
    dtype: str = "auto"
    device: str = "auto"
    engine: str = "transformers"
    process: str = ""
    """Where it runs: empty is as all engines of its kind do, `own` a process of its own, else one under the interpreter
    of this path."""

    def __post_init__(self) -> None:
        """Refuse a dtype that no engine has."""
        if self.dtype not in DTYPES:
            msg = f"dtype {self.dtype!r} is not possible; allowed: {', '.join(DTYPES)}"
            raise OptionError(msg)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that two variants share exactly when they describe the same thing."""
        content = {
            "model": self.model,
            "optimizations": [
                (item.name, {key: _plain(value) for key, value in dataclasses.asdict(item.options).items()})
                for item in self.optimizations
            ],
            "dtype": self.dtype,
            "device": self.device,
            "engine": self.engine,
            **({"process": self.process} if self.process else {}),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """The optimizations as a person writes them, joined by plus signs."""
        return " + ".join(item.label for item in self.optimizations) or "unoptimized"

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """Everything that its optimizations need."""
        return tuple(itertools.chain.from_iterable(item.options.requirements for item in self.optimizations))

    @property
    def promises(self) -> frozenset[Promise]:
        """What its optimizations claim to keep."""
        return frozenset(item.options.promise for item in self.optimizations)

    def unoptimized(self) -> Variant:
        """The same model, run the same way, with no optimization: the default reference."""
        return dataclasses.replace(self, optimizations=(), process="")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values.

        Raises:
            OptionError: an option is no plain data.
        """
        return {
            **{name: getattr(self, name) for name in ("model", "dtype", "device", "engine", "process")},
            "optimizations": [item.to_json() for item in self.optimizations],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Variant:
        """The variant that `to_json` wrote, in this or another process.

        Raises:
            OptionError: an optimization cannot be found, or does not take its options.
        """
        optimizations = tuple(map(Applied.from_json, content["optimizations"]))
        return cls(**{**content, "optimizations": optimizations})

    def check(self, loads: Collection[str] = (), appliers: Mapping[str, Applier] = NO_APPLIERS) -> None:
        """Refuse what cannot be loaded, before loading anything.

        Args:
            loads: the optimizations whose checkpoints the engine loads.
            appliers: the engine's own, by the name of the optimization.

        Raises:
            CombinationError: an optimization twice, two that exclude each other, or one that the engine cannot apply.
        """
        for item in self.optimizations:
            if not can_apply(self.engine, item.name, item.options, loads, appliers):
                engines = ", ".join(engines_that_can(item.name, item.options)) or "none"
                msg = f"{item.name} cannot run on engine {self.engine!r}; it can on: {engines}"
                raise CombinationError(msg)
        for first, second in itertools.combinations(self.optimizations, 2):
            if first.name == second.name:
                msg = f"{first.name} is stacked twice: {first.label} and {second.label}"
                raise CombinationError(msg)
            for one, other in ((first, second), (second, first)):
                why = one.options.conflicts.get(other.name) or one.options.conflicts.get(other.family)
                if why is not None:
                    msg = f"{one.name} cannot be combined with {other.name}: {why}"
                    raise CombinationError(msg)


def _says_which(value: object) -> bool:
    """Whether a first option names what is done, such as 4 bits, and does not only switch something."""
    return isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != ""


def _plain(value: object) -> object:
    """Equal options written alike: 8 and 8.0, 1 and True."""
    return float(value) if isinstance(value, (bool, int, float)) else value
