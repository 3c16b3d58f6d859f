"""From the markers of a test to the two variants that it compares."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pytest_llmopt.core.applying import NO_APPLIERS
from pytest_llmopt.core.budget import Budget
from pytest_llmopt.core.comparison import Comparison
from pytest_llmopt.core.errors import OptionError, UnknownNameError
from pytest_llmopt.core.optimization import build, options_of
from pytest_llmopt.core.requirements import Cuda, Requirement, device_requirements, parse_bytes
from pytest_llmopt.core.text import shown
from pytest_llmopt.core.values import Count, CountOrNone, NonNegative, Said, Size, fit
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.names import MARKERS, PREFIX, QUANTIZATION
from pytest_llmopt.runtime.places import OWN, interpreter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pytest

    from pytest_llmopt.core.registry import Registry
    from pytest_llmopt.options import Settings

CONFIGURED = f"{QUANTIZATION}.configured"
"""The quantizer that reads what it is from a checkpoint or a config."""
FOLDERS = ("adapter", "checkpoint", "draft")
"""Options of optimizations that may name a folder."""
MODEL = "{model}"
"""Stands for the model under test in a name: the checkpoint, adapter or draft beside it."""
CAPABILITY = "a compute capability such as 8.0 or (8, 0)"
GPU: Mapping[str, Any] = {
    "memory": Size | None,
    "capability": Annotated[tuple[CountOrNone, CountOrNone] | str | NonNegative, Said(CAPABILITY)],
    "count": Count,
}
"""What the `gpu` marker takes."""
ORDER = (QUANTIZATION, "kernels", "decoding")
"""Families in the order in which they are applied; one that is not named goes with the kernels."""


@dataclass(frozen=True)
class Marks:
    """The llmopt markers that apply to one test, by name, the closest first."""

    by_name: Mapping[str, tuple[pytest.Mark, ...]] = field(default_factory=dict)
    optimizations: tuple[pytest.Mark, ...] = ()

    @classmethod
    def of(cls, marks: Iterable[pytest.Mark], optimizations: Registry) -> Marks:
        """Sort the markers of a test.

        Raises:
            UnknownNameError: a marker begins with `llmopt_` and is not one of ours.
        """
        by_name: dict[str, tuple[pytest.Mark, ...]] = {}
        applying = []
        full_names = marker_names(optimizations)
        for mark in marks:
            if not mark.name.startswith(PREFIX):
                continue
            name = mark.name.removeprefix(PREFIX)
            if name in {"quantized", "optimization"} or name in full_names:
                applying.append(mark)
            elif name in MARKERS:
                by_name[name] = (*by_name.get(name, ()), mark)
            else:
                kind = "marker"
                raise UnknownNameError(kind, name, {*MARKERS, *full_names})
        return cls(by_name, tuple(applying))

    def closest(self, name: str) -> pytest.Mark | None:
        """The marker of that name that is closest to the test."""
        return next(iter(self.by_name.get(name, ())), None)


def key_of(mark: pytest.Mark) -> tuple[str, str]:
    """What two markers share of which only the closer one counts: the kind, or the optimization however it is named."""
    name = mark.name.removeprefix(PREFIX)
    if name == "optimization" and mark.args:
        family, _, short = str(mark.args[0]).partition(".")
        return "applies", "quantized" if family == QUANTIZATION else short
    return "says" if name in MARKERS and name != "quantized" else "applies", name


def marker_names(optimizations: Registry) -> dict[str, str]:
    """Full names by marker name, for optimizations that have a marker of their own (all but quantizers)."""
    names = (name for name in optimizations.names() if not name.startswith(f"{QUANTIZATION}."))
    return {name.rpartition(".")[2]: name for name in names}


def compare(marks: Marks, model: str, settings: Settings, optimizations: Registry, engines: Registry) -> Comparison:
    """The comparison that the markers of a test ask for.

    Raises:
        LlmoptError: a marker is wrong, or its optimizations cannot be combined.
    """
    engine = str(settings.get("engine", _engine(marks)))
    plain = Variant(model, (), settings.get("dtype"), settings.get("device"), engine)
    applied = _applied(marks.optimizations, model, settings, optimizations)
    candidate = dataclasses.replace(plain, optimizations=applied, process=_process(marks))
    against = marks.closest("against")
    reference = plain if against is None else _reference(against, plain, settings, optimizations)
    for variant in (candidate, reference):
        if variant.engine not in engines.names():
            kind = "engine"
            raise UnknownNameError(kind, variant.engine, engines.names())
        engine_kind = engines.load(variant.engine)
        variant.check(getattr(engine_kind, "loads", ()), getattr(engine_kind, "appliers", NO_APPLIERS))
    budget = marks.closest("budget")
    return Comparison(
        candidate,
        reference,
        (
            *gpu_requirement(marks),
            *(() if against is None else device_requirements(against.kwargs.get("device"))),
            *_requirements(candidate, settings),
            *_requirements(reference, settings),
        ),
        None if budget is None else build(Budget, "budget", budget.args, budget.kwargs),
    )


def _engine(marks: Marks) -> str | None:
    mark = marks.closest("engine")
    if mark is None:
        return None
    name = _argument(mark)
    if len(mark.args) > 1 or mark.kwargs or not isinstance(name, str):
        got = ", ".join([*map(repr, mark.args), *(f"{key}={value!r}" for key, value in mark.kwargs.items())])
        msg = f"engine takes one name, such as engine('transformers'); got {got}"
        raise OptionError(msg)
    return name


def _requirements(variant: Variant, settings: Settings) -> tuple[Requirement, ...]:
    """What its optimizations need here; what they need under another interpreter is found out there."""
    elsewhere = {item.partition("=")[0] for item in settings.get("python")}
    return () if variant.process not in {"", OWN} or variant.engine in elsewhere else variant.requirements


def _process(marks: Marks) -> str:
    """Where the candidate runs, by the marker `isolated`.

    Raises:
        OptionError: the marker has another argument, or an interpreter that is none.
    """
    mark = marks.closest("isolated")
    if mark is None:
        return ""
    python = mark.kwargs.get("python", OWN)
    if mark.args or mark.kwargs.keys() - {"python"} or not isinstance(python, str):
        msg = f"isolated takes python= as a text and nothing else, got {shown([*mark.args, *mark.kwargs.items()])}"
        raise OptionError(msg)
    return python if python == OWN else interpreter(python, f"isolated(python={python!r})")


def gpu_requirement(marks: Marks) -> tuple[Requirement, ...]:
    """What the `gpu` marker asks for, if there is one.

    Raises:
        OptionError: it has an argument that it does not take.
    """
    mark = marks.closest("gpu")
    if mark is None:
        return ()
    wrong = [key for key in mark.kwargs if key not in GPU]
    if wrong or mark.args:
        msg = f"gpu takes {', '.join(f'{name}=' for name in GPU)}; got {shown([*mark.args, *wrong])}"
        raise OptionError(msg)
    given = {name: fit(f"gpu: {name}", value, GPU[name]) for name, value in mark.kwargs.items()}
    return (
        Cuda(
            memory=0 if given.get("memory") is None else parse_bytes(given["memory"]),
            capability=_capability(given.get("capability", (0, 0))),
            count=given.get("count", 1),
        ),
    )


def _capability(value: str | float | tuple[int, int]) -> tuple[int, int]:
    if isinstance(value, tuple):
        return value
    major, _, minor = str(value).partition(".")
    if all(part.isascii() and part.isdigit() and len(part) < 4 for part in (major, minor or "0")):  # noqa: PLR2004
        return int(major), int(minor or 0)
    msg = f"gpu: capability={shown(value)} is not possible; give {CAPABILITY}"
    raise OptionError(msg)


def _reference(mark: pytest.Mark, plain: Variant, settings: Settings, optimizations: Registry) -> Variant:
    known = ("model", "dtype", "device", "engine")
    wrong = [key for key in mark.kwargs if key not in known]
    if wrong:
        msg = f"against takes optimizations and {', '.join(f'{name}=' for name in known)}; got {', '.join(wrong)}"
        raise OptionError(msg)
    for key, value in mark.kwargs.items():
        fit(f"against: {key}", value, str)
    inner = []
    for argument in mark.args:
        if not hasattr(argument, "mark"):
            msg = f"against takes optimizations such as llmopt.attention('eager'), got {shown(argument)}"
            raise OptionError(msg)
        inner.append(argument.mark)
    model = settings.found(str(mark.kwargs.get("model", plain.model)))
    changed = {**mark.kwargs, "model": model}
    return dataclasses.replace(plain, optimizations=_applied(inner, model, settings, optimizations), **changed)


def _applied(
    marks: Iterable[pytest.Mark], model: str, settings: Settings, optimizations: Registry
) -> tuple[Applied, ...]:
    """The optimizations of some markers, quantizers first: a model is quantized before it is compiled."""
    applied = []
    for mark in marks:
        name, given, named = _name_and_arguments(mark, optimizations)
        args = tuple(_of_model(value, model) for value in given)
        options = {key: _of_model(value, model) for key, value in named.items()}
        applied.append(Applied(name, _placed(build(optimizations.load(name), name, args, options), settings)))
    return tuple(sorted(applied, key=lambda item: (ORDER.index(item.family) if item.family in ORDER else 1, item.name)))


def _placed(built: Any, settings: Settings) -> Any:
    """An optimization whose folders are absolute, so that they do not hang on where a test changes to."""
    told = {item.name: getattr(built, item.name) for item in options_of(built) if item.name in FOLDERS}
    found = {name: settings.found(value) for name, value in told.items() if isinstance(value, str) and value}
    return dataclasses.replace(built, **found) if found != {name: told[name] for name in found} else built


def _of_model(value: Any, model: str) -> Any:
    """An argument of a marker, with the model under test where it says `{model}`."""
    return value.replace(MODEL, model.rstrip("/")) if isinstance(value, str) else value


def _name_and_arguments(mark: pytest.Mark, optimizations: Registry) -> tuple[str, tuple[Any, ...], Mapping[str, Any]]:
    short = mark.name.removeprefix(PREFIX)
    if short == "quantized":
        return _quantizer(mark, optimizations)
    if short == "optimization":
        return str(_argument(mark)), mark.args[1:], mark.kwargs
    names = marker_names(optimizations)
    if short not in names:
        kind = "optimization"
        raise UnknownNameError(kind, short, names)
    return names[short], mark.args, mark.kwargs


def _quantizer(mark: pytest.Mark, optimizations: Registry) -> tuple[str, tuple[Any, ...], Mapping[str, Any]]:
    """The method that a marker names, or what a checkpoint or a config says; then options are what is expected."""
    given = {key: value for key, value in mark.kwargs.items() if key in {"checkpoint", "config"}}
    if not mark.args and given:
        return CONFIGURED, (), mark.kwargs
    method = str(_argument(mark))
    name = f"{QUANTIZATION}.{method}"
    if name not in optimizations.names():
        kind = "quantization method"
        methods = [name.partition(".")[2] for name in optimizations.names() if name.startswith(QUANTIZATION)]
        raise UnknownNameError(kind, method, methods)
    if not given or name == CONFIGURED:
        return name, mark.args[1:], mark.kwargs
    expected = {key: value for key, value in mark.kwargs.items() if key not in given}
    built = build(optimizations.load(name), name, mark.args[1:], expected)
    named = (item.name for item in options_of(built))
    expected |= dict(zip(named, mark.args[1:], strict=False))
    return CONFIGURED, (), {**given, "method": method, "options": tuple(sorted(expected.items()))}


def _argument(mark: pytest.Mark) -> object:
    if not mark.args:
        msg = f"{mark.name.removeprefix(PREFIX)} needs a name as its first argument"
        raise OptionError(msg)
    return mark.args[0]
