"""How a test that asks for a side becomes one test per model, and what its parameters may not be."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import LlmoptError, OptionError
from pytest_llmopt.marker_levels import closest_mark
from pytest_llmopt.names import MODEL, NO_MODEL, PREFIX, SIDES, model_of
from pytest_llmopt.options import SETTINGS

if TYPE_CHECKING:
    import pytest

    from pytest_llmopt.options import Settings

FIXTURES = "pytest_llmopt.fixtures"
EMPTY = "got empty parameter set"
"""How pytest begins the reason for which it skips a test with no parameters."""


@dataclass(frozen=True)
class Parameters:
    """Parameters to run with, which a test has none of where its set is empty."""

    reason: str
    name: str = "parameters"

    def missing(self) -> str | None:
        """Why there are none, in pytest's words."""
        return self.reason


def choose_models(metafunc: pytest.Metafunc) -> None:
    """Run a test once per model, before its other parameters are known; the markers of these come later.

    A test without a model gets a place for one: it is an error where the test is selected, and not before.
    """
    names = _models(metafunc.config.stash[SETTINGS], closest_mark(metafunc.definition, "model"))
    metafunc.parametrize(MODEL, names, ids=_ids(names), indirect=True)


def apply_model_parameters(metafunc: pytest.Metafunc) -> None:
    """Give the runs whose own parameters carry a `model` marker the models of that marker instead."""
    # pytest has no public way to change what was parametrized before.
    calls: list[Any] = metafunc._calls  # noqa: SLF001
    if not _asks(metafunc):
        metafunc._calls = [_without_model(call) for call in calls if call.params[MODEL] == calls[0].params[MODEL]]  # noqa: SLF001
        return
    marks = [next((mark for mark in call.marks if mark.name == f"{PREFIX}model"), None) for call in calls]
    if not any(marks):
        return
    first, chosen = calls[0].params[MODEL], []
    for call, mark in zip(calls, marks, strict=True):
        if mark is None:
            chosen.append(call)
        elif call.params[MODEL] == first:
            names = _models(metafunc.config.stash[SETTINGS], mark)
            chosen += [_with_model(call, name, id_) for name, id_ in zip(names, _ids(names), strict=True)]
    metafunc._calls = chosen  # noqa: SLF001


def models_are_given(metafunc: pytest.Metafunc) -> bool:
    """Whether a test names its models by `pytest.mark.parametrize("llmopt_model", ...)` itself."""
    return any(MODEL in _argument_names(mark) for mark in metafunc.definition.iter_markers("parametrize"))


def check_model_mark(mark: pytest.Mark | None) -> None:
    """Refuse a `model` marker that names no models.

    Raises:
        OptionError: says what it takes.
    """
    if mark is None:
        return
    named = all(isinstance(name, str) and name.strip() for name in mark.args)
    if mark.kwargs or not mark.args or not named:
        got = ", ".join([*map(repr, mark.args), *(f"{key}={value!r}" for key, value in mark.kwargs.items())])
        msg = f"model takes the names of models, such as model('tiny-llama', 'path/to/model'); got {got or 'none'}"
        raise OptionError(msg)


def check_parameters(item: pytest.Item, settings: Settings) -> None:
    """Refuse parameters that could not have any effect.

    Raises:
        OptionError: names the parameter, and what to write instead.
    """
    for name in sorted({*SIDES, MODEL} & set(getattr(item, "fixturenames", ()))):
        home = _home(item, name)
        if name in SIDES and home == FIXTURES and name in item.callspec.params:  # type: ignore[attr-defined]
            msg = f"{name} takes no parameters of its own; use llmopt.variants, or parameters with markers of llmopt"
            raise OptionError(msg)
        if name == MODEL and home != FIXTURES and not home.startswith("_pytest."):
            msg = f"the fixture {MODEL} in {home} hides that of pytest-llmopt: name models by the model marker instead"
            raise OptionError(msg)
    mark = closest_mark(item, "model")
    check_model_mark(mark)
    if mark is not None and model_of(item) not in _models(settings, mark):
        msg = f"model({', '.join(map(repr, mark.args))}) comes too late here: put it on the test or its own parameters"
        raise OptionError(msg)


def empty_parameters(item: pytest.Item) -> tuple[Parameters, ...]:
    """What a test lacks that pytest skips for an empty set of parameters."""
    marks = getattr(getattr(item, "callspec", None), "marks", ())
    reasons = [str(mark.kwargs.get("reason", "")) for mark in marks if mark.name == "skip"]
    return tuple(Parameters(reason) for reason in reasons if reason.startswith(EMPTY))


def _models(settings: Settings, mark: pytest.Mark | None) -> tuple[str, ...]:
    try:
        check_model_mark(mark)
    except LlmoptError:  # said where the test is described, if it is selected
        return (NO_MODEL,)
    return settings.models(() if mark is None else mark.args) or (NO_MODEL,)


def _ids(names: tuple[str, ...]) -> list[str]:
    """The last part of each name, with as many before it as tell the models apart."""
    parts = [name.rstrip("/").split("/") for name in names]
    for depth in range(1, max(map(len, parts)) + 1):
        ids = ["/".join(part[-depth:]) or "no-model" for part in parts]
        if len(set(ids)) == len(ids):
            break
    return ids


def _asks(metafunc: pytest.Metafunc) -> bool:
    """Whether a test still asks for a side, now that its parameters may have taken the place of one."""
    fixtures = metafunc._arg2fixturedefs  # noqa: SLF001
    known: set[str] = set()
    names = set(metafunc.definition._fixtureinfo.initialnames)  # noqa: SLF001
    while names - known:
        name = (names - known).pop()
        known.add(name)
        for fixture in reversed(fixtures.get(name, ())):
            names.update(fixture.argnames)
            if name not in fixture.argnames:  # it does not ask for the one that it overrides
                break
    return MODEL in known


def _without_model(call: Any) -> Any:
    params = {name: value for name, value in call.params.items() if name != MODEL}
    indices = {name: place for name, place in call.indices.items() if name != MODEL}
    return dataclasses.replace(call, params=params, indices=indices, _idlist=call._idlist[1:])  # noqa: SLF001


def _with_model(call: Any, name: str, id_: str) -> Any:
    """A planned run of a test with another model; that is the first part of its id."""
    return dataclasses.replace(call, params=call.params | {MODEL: name}, _idlist=[id_, *call._idlist[1:]])  # noqa: SLF001


def _argument_names(mark: pytest.Mark) -> list[str]:
    names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
    return [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]


def _home(item: pytest.Item, name: str) -> str:
    """The module of the fixture of that name that a test uses."""
    definitions = item._fixtureinfo.name2fixturedefs.get(name)  # type: ignore[attr-defined] # noqa: SLF001
    return definitions[-1].func.__module__ if definitions else ""
