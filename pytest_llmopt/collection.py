"""What happens to our tests between collection and set-up: they are described, ordered, and checked for needs."""

from __future__ import annotations

from typing import TypeAlias

import pytest

from pytest_llmopt.core.errors import LlmoptError, RequirementMissingError, UnknownNameError
from pytest_llmopt.core.requirements import Requirement, require
from pytest_llmopt.fixtures import skip_or_fail
from pytest_llmopt.markers import Comparison, Marks, compare, gpu_requirement
from pytest_llmopt.names import PREFIX, is_ours, model_of
from pytest_llmopt.session import COMPARISON, REQUIREMENTS, Session

BY_MODEL = ("benchmark", "draft", "flash_attention_2", "flash_attention_3", "flex_attention", "memory", "sdpa")
"""Requirements that turn up only when a model is loaded or a check runs."""
Description: TypeAlias = tuple[tuple[Requirement, ...], Comparison | None]
"""What a test needs, and what it compares."""
DESCRIBED = pytest.StashKey[tuple[tuple[pytest.Mark, ...], Description]]()
"""With the markers that it was read from."""


def describe(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Turn the markers of every test of ours into what it compares and what it needs.

    Raises:
        pytest.UsageError: markers are wrong; names every test that has such markers.
    """
    session = Session.of(config)
    errors = []
    for item in filter(is_ours, items):
        try:
            item.stash[REQUIREMENTS], comparison = _described(session, item)
            if comparison is not None:
                item.stash[COMPARISON] = comparison
        except LlmoptError as error:
            errors.append(f"{item.nodeid}: {error}")
    if errors:
        raise pytest.UsageError("\n".join(errors))
    _check_required(session, items)


def group(item: pytest.Item) -> str:
    """What the tests of one candidate of one model have in common; the model alone where the markers are wrong."""
    name = str(model_of(item))
    try:
        _, comparison = _described(Session.of(item.config), item)
    except LlmoptError:  # `describe` says so, if the test is selected at all
        comparison = None
    if comparison is not None:
        name += f"-{comparison.candidate.digest}"
    # pytest-xdist reads a group from behind the last @ and the last ] of a test's name.
    return name.replace("@", "-").replace("]", "-")


def _described(session: Session, item: pytest.Item) -> Description:
    """What a test needs, and what it compares if it asks for a side: read once, unless a hook adds a marker later."""
    closest = [mark for mark in _closest(item) if mark.name.startswith(PREFIX)]
    given, described = item.stash.get(DESCRIBED, ((), None))
    if described is None or list(map(id, given)) != list(map(id, closest)):
        described = _read(session, item, closest)
        item.stash[DESCRIBED] = (tuple(closest), described)
    return described


def _read(session: Session, item: pytest.Item, closest: list[pytest.Mark]) -> Description:
    marks = Marks.of(closest, session.optimizations)
    model = model_of(item)
    if model is None:
        return gpu_requirement(marks), None
    comparison = compare(marks, model, session.settings, session.optimizations, session.engines)
    return comparison.requirements, comparison


def _check_required(session: Session, items: list[pytest.Item]) -> None:
    """Refuse a name in `--llmopt-require` that nothing here answers to: a typo must not let a gate pass by skipping."""
    names = session.optimizations.names()
    known = {"all", *BY_MODEL, *(part for name in names for part in name.split("."))}
    known |= {need.name for item in items for need in item.stash.get(REQUIREMENTS, ())} | {"gpu"}
    for name in session.settings.get("require"):
        if name not in known:
            raise pytest.UsageError(str(UnknownNameError("--llmopt-require", name, known)))


def _closest(item: pytest.Item) -> list[pytest.Mark]:
    """Its markers; one on a function overrides those of the same name on its class, and these those of the module."""
    homes: dict[tuple[object, ...], object] = {}
    marks = []
    for node, mark in item.iter_markers_with_node():
        key = (mark.name, *mark.args[:1]) if mark.name == f"{PREFIX}optimization" else (mark.name,)
        if homes.setdefault(key, node) is node:
            marks.append(mark)
    return marks


def grouped(items: list[pytest.Item]) -> list[pytest.Item]:
    """Tests of the same model, then of the same variants, next to each other; groups in order of first appearance.

    A side is then loaded once, also when memory has room for two models only. Other tests stay where they are.
    """
    places = [place for place, item in enumerate(items) if COMPARISON in item.stash]
    references: dict[str, int] = {}
    pairs: dict[tuple[str, str], int] = {}
    for place in places:
        pair = _pair(items[place])
        references.setdefault(pair[0], place)
        pairs.setdefault(pair, place)

    def rank(place: int) -> tuple[int, int]:
        pair = _pair(items[place])
        return references[pair[0]], pairs[pair]

    arranged = list(items)
    for place, source in zip(places, sorted(places, key=rank), strict=True):
        arranged[place] = items[source]
    return arranged


def _pair(item: pytest.Item) -> tuple[str, str]:
    comparison = item.stash[COMPARISON]
    return comparison.reference.digest, comparison.candidate.digest


def check_requirements(item: pytest.Item) -> None:
    """Skip a test whose requirements are not met, or fail it where `--llmopt-require` says so."""
    missing: RequirementMissingError | None = None
    try:
        require(*item.stash.get(REQUIREMENTS, ()))
    except RequirementMissingError as error:
        missing = error
    if missing is None:
        return
    comparison = item.stash.get(COMPARISON, None)
    label = "" if comparison is None else f"{comparison.candidate.label} + {comparison.reference.label}"
    skip_or_fail(Session.of(item.config), missing, label)
