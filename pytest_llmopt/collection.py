"""What happens to our tests between collection and set-up: they are ordered, described, and checked for needs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_llmopt.core.errors import (
    CombinationError,
    LlmoptError,
    OptionError,
    RequirementMissingError,
    UnknownNameError,
)
from pytest_llmopt.core.requests import every_request
from pytest_llmopt.core.requirements import require
from pytest_llmopt.fixtures import skip_or_fail
from pytest_llmopt.generation import check_parameters, empty_parameters
from pytest_llmopt.marker_levels import Level, is_mark, levels
from pytest_llmopt.markers import Marks, compare, gpu_requirement, key_of
from pytest_llmopt.names import ASK, MODEL, NO_MODEL, PREFIX, REFUSED, is_ours, model_of, nodeid_of
from pytest_llmopt.outcomes import COMPARISON
from pytest_llmopt.prechecks import refusals
from pytest_llmopt.session import EVIDENCE, REQUIREMENTS, Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _pytest._io import TerminalWriter

    from pytest_llmopt.core.comparison import Comparison
    from pytest_llmopt.core.requirements import Requirement

BY_MODEL = (
    *("benchmark", "draft", "flash_attention_2", "flash_attention_3", "flex_attention", "memory", "sdpa"),
    *("torch", "transformers"),
)
"""Requirements that turn up only when a model is loaded or a check runs."""
ONCE = ("against", "budget", "engine", "gpu", "model")
"""Markers that one place can give once; optimizations say themselves what cannot be stacked."""
WITHOUT_SIDE = ("gpu",)
"""Markers that mean something on a test that asks for no side."""


@dataclass(frozen=True)
class Description:
    """What the markers of a test amount to, or what is wrong with them."""

    marks: tuple[pytest.Mark, ...]
    """What it was made from."""
    requirements: tuple[Requirement, ...] = ()
    comparison: Comparison | None = None
    error: str = ""


@dataclass(frozen=True)
class Refusal:
    """An error of collection as pytest prints it: the short summary has the name of the test already."""

    nodeid: str
    reason: str

    def __str__(self) -> str:
        return f"{self.nodeid}: {self.reason}" if self.nodeid else self.reason

    @property
    def reprcrash(self) -> SimpleNamespace:
        """What the short summary shows."""
        return SimpleNamespace(message=self.reason)

    def toterminal(self, writer: TerminalWriter) -> None:
        """Print it where errors are listed."""
        writer.line(str(self))


DESCRIPTION = pytest.StashKey[Description]()


def describe(session: pytest.Session) -> None:
    """Turn the markers of every selected test into what it compares and what it needs.

    A test with wrong markers, or with a model, device or backend that does not exist, is an error of collection, as if
    its file could not be read: it ends the run before any model is loaded, unless `--continue-on-collection-errors`
    leaves out only this test.

    Raises:
        pytest.UsageError: `--llmopt-require` has a name that nothing answers to.
    """
    config = session.config
    wrong: set[pytest.Item | pytest.Session] = set()
    for item in filter(is_ours, session.items):
        found = _description(item)
        if found.error:
            wrong.add(item)
            _report(config, nodeid_of(item), found.error)
            continue
        item.stash[REQUIREMENTS] = found.requirements
        if found.comparison is not None:
            item.stash[COMPARISON] = found.comparison
    session.items[:] = [item for item in session.items if item not in wrong]
    for message, items in refusals(config, session.items).items():
        wrong.update(items)
        more = f" (and in {len(items) - 1} more tests)" if len(items) > 1 else ""
        _report(config, nodeid_of(items[0]), f"{message}{more}")
    session.items[:] = [item for item in session.items if item not in wrong]
    on_worker = hasattr(config, "workerinput")
    try:
        _check_required(Session.of(config), session.items)
    except pytest.UsageError as error:
        if not on_worker:
            raise
        wrong.add(session)
        _report(config, "", str(error))
    if wrong and on_worker and not config.getoption("continue_on_collection_errors"):
        # The controller of pytest-xdist would go on with the other tests; this tells it to stop.
        session.items.clear()
        session.shouldstop = "errors during collection"


def group(item: pytest.Item) -> str:
    """What the tests of one candidate of one model have in common; the model alone where the markers are wrong."""
    name, found = str(model_of(item)).rstrip("/").rpartition("/")[2], _description(item)
    if found.comparison is not None:
        name += f"-{found.comparison.candidate.digest}"
    # pytest-xdist reads a group from behind the last @ and the last ] of a test's name.
    return name.replace("@", "-").replace("]", "-")


def arrange(config: pytest.Config, items: list[pytest.Item]) -> list[pytest.Item]:
    """The collected tests, those of a model and its variants together; warns of markers that do nothing.

    This comes before every other plugin that orders or selects tests, so each of them has a later word. What
    pytest-randomly shuffles is a module's tests as long as they stand together, so they are left together for it.
    """
    by_name = any("::" in str(argument) for argument in config.args)
    if not by_name and not config.getoption("lf", default=False):
        for node, names in _idle(items).items():
            message = f"no test of {node.nodeid} asks for a side, so its {', '.join(names)} does nothing: {ASK}"
            _warn(node, message)
    return items if config.getoption("randomly_reorganize", default=False) else grouped(items)


def _description(item: pytest.Item) -> Description:
    """Kept until its markers change, as a plugin may change them after collection."""
    marks = tuple(filter(is_mark, item.iter_markers()))
    known = item.stash.get(DESCRIPTION, None)
    if known is None or list(map(id, known.marks)) != list(map(id, marks)):
        known = item.stash[DESCRIPTION] = _describe(Session.of(item.config), item, marks)
    return known


def _describe(session: Session, item: pytest.Item, given: tuple[pytest.Mark, ...]) -> Description:
    try:
        places = levels(item)
        marks = Marks.of(_closest(places), session.optimizations)
        _check_once(places)
        model = _model(item, places)
        if model is None:
            return Description(given, gpu_requirement(marks))
        check_parameters(item, session.settings)
        comparison = compare(marks, model, session.settings, session.optimizations, session.engines)
        return Description(given, comparison.requirements, comparison)
    except LlmoptError as error:
        return Description(given, error=str(error))


def _model(item: pytest.Item, places: list[Level]) -> str | None:
    """The model of a test that asks for a side.

    Raises:
        OptionError: there is none, or markers of its own have no side to apply to.
    """
    model = model_of(item)
    if model is None and MODEL in getattr(item, "fixturenames", ()):
        msg = "a method of unittest.TestCase cannot run once per model: write it as a function or in a plain class"
        raise OptionError(msg)
    if model is None:
        own = [mark.name.removeprefix(PREFIX) for level in places if level.is_own for mark in level.marks]
        stray = [name for name in own if name not in WITHOUT_SIDE]
        if stray:
            msg = f"{', '.join(stray)} on a test that asks for no side does nothing: {ASK}"
            raise OptionError(msg)
    if model == NO_MODEL and not any(mark.name == f"{PREFIX}model" for level in places for mark in level.marks):
        msg = (
            "no model to test: give --llmopt-model FOLDER_OR_ID "
            "(`--llmopt-model zoo` for the models that ship with the package), or @llmopt.model(...)"
        )
        raise OptionError(msg)
    return model


def _closest(places: Iterable[Level]) -> list[pytest.Mark]:
    """The markers of a test that count: one that is closer overrides those of the same kind farther away."""
    homes: dict[tuple[str, str], Level] = {}
    return [mark for level in places for mark in level.marks if homes.setdefault(key_of(mark), level) is level]


def _check_once(places: Iterable[Level]) -> None:
    """Refuse two markers in one place of which only one could count.

    Raises:
        CombinationError: names the marker and the place.
    """
    for level in places:
        names = [mark.name.removeprefix(PREFIX) for mark in level.marks]
        for name in ONCE:
            if names.count(name) > 1:
                hint = "give both names to one: model('a', 'b')" if name == "model" else "keep one"
                msg = f"{name} stands {names.count(name)} times on {level.where}: {hint}"
                raise CombinationError(msg)


def _report(config: pytest.Config, nodeid: str, reason: str) -> None:
    """Tell pytest of an error of collection; pytest-xdist carries it to its controller, which says it once."""
    text = str(Refusal(nodeid, reason))
    report = pytest.CollectReport(nodeid=nodeid, outcome="failed", longrepr=text, result=[])
    report.__dict__[REFUSED] = reason
    config.hook.pytest_collectreport(report=report)


def _idle(items: Iterable[pytest.Item]) -> dict[pytest.Collector, list[str]]:
    """Classes, modules and the like whose markers none of their tests can use."""
    asks: dict[pytest.Collector, bool] = {}
    for item in items:
        for node in item.listchain()[:-1]:
            if isinstance(node, pytest.Collector) and any(map(is_mark, node.own_markers)):
                asks[node] = asks.get(node, False) or MODEL in getattr(item, "fixturenames", ())
    found = {}
    for node in (node for node, asked in asks.items() if not asked):
        names = dict.fromkeys(mark.name.removeprefix(PREFIX) for mark in node.own_markers if is_mark(mark))
        found[node] = [name for name in names if name not in WITHOUT_SIDE]
    return {node: names for node, names in found.items() if names}


def _warn(node: pytest.Collector, message: str) -> None:
    try:
        warnings.warn_explicit(pytest.PytestCollectionWarning(message), None, str(node.path), 1, registry={})
    except pytest.PytestCollectionWarning as error:  # `-W error`
        _report(node.config, node.nodeid, str(error))


def _check_required(session: Session, items: list[pytest.Item]) -> None:
    """Refuse a name in `--llmopt-require` that nothing here answers to: a typo must not let a gate pass by skipping."""
    names = session.optimizations.names()
    known = {"all", "parameters", *BY_MODEL, *(part for name in names for part in name.split("."))}
    known |= {need.name for item in items for need in item.stash.get(REQUIREMENTS, ())} | {"gpu", EVIDENCE}
    known |= {kind.requirement() for kind in every_request()}
    for name in session.settings.get("require"):
        if name not in known:
            raise pytest.UsageError(str(UnknownNameError("--llmopt-require", name, known)))


def grouped(items: list[pytest.Item]) -> list[pytest.Item]:
    """Tests of the same model, then of the same variants, next to each other; groups in order of first appearance.

    A side is then loaded once, also when memory has room for two models only. Other tests stay where they are.
    """
    pairs = {place: pair for place, item in enumerate(items) if (pair := _pair(item)) is not None}
    references: dict[str, int] = {}
    firsts: dict[tuple[str, str], int] = {}
    for place, pair in pairs.items():
        references.setdefault(pair[0], place)
        firsts.setdefault(pair, place)
    arranged = list(items)
    ordered = sorted(pairs, key=lambda place: (references[pairs[place][0]], firsts[pairs[place]]))
    for place, source in zip(pairs, ordered, strict=True):
        arranged[place] = items[source]
    return arranged


def _pair(item: pytest.Item) -> tuple[str, str] | None:
    comparison = _description(item).comparison if model_of(item) is not None else None
    return None if comparison is None else (comparison.reference.digest, comparison.candidate.digest)


def check_parameter_sets(item: pytest.Item) -> None:
    """Skip a test without parameters as pytest does, or fail it where `--llmopt-require` says so."""
    _require(item, empty_parameters(item))


def check_requirements(item: pytest.Item) -> None:
    """Skip a test whose requirements are not met, or fail it where `--llmopt-require` says so."""
    known: tuple[Requirement, ...] = item.stash.get(REQUIREMENTS, ())
    _require(item, known)


def _require(item: pytest.Item, needs: Iterable[Requirement]) -> None:
    missing: RequirementMissingError | None = None
    try:
        require(*needs)
    except RequirementMissingError as error:
        missing = error
    if missing is None:
        return
    comparison = item.stash.get(COMPARISON, None)
    label = "" if comparison is None else f"{comparison.candidate.label} + {comparison.reference.label}"
    skip_or_fail(Session.of(item.config), missing, label)
