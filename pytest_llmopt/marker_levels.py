"""Where the markers of a test stand: in its parameters, on its function, on a class of the MRO, in its module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmopt.names import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PARAMETERS = "its parameters"
FUNCTION = "its function"


@dataclass(frozen=True)
class Level:
    """One place that gives markers to a test, with those of ours."""

    where: str
    marks: tuple[pytest.Mark, ...]

    @property
    def is_own(self) -> bool:
        """Whether the place belongs to this test alone."""
        return self.where in {PARAMETERS, FUNCTION}


def levels(node: pytest.Item) -> list[Level]:
    """The places with markers of ours, the closest to the test first.

    What a plugin adds to one test comes before or after those of its function, as it asks. pytest keeps the markers of
    a class and of its bases in one list, bases first; here a class comes before its bases, as in Python.
    """
    found = [Level(where, tuple(filter(is_mark, marks))) for where, marks in _places(node)]
    return [level for level in found if level.marks]


def is_mark(mark: pytest.Mark) -> bool:
    """Whether a marker is one of ours."""
    return mark.name.startswith(PREFIX)


def closest_mark(node: pytest.Item, name: str) -> pytest.Mark | None:
    """The marker of that name that is closest to a test."""
    return next((mark for level in levels(node) for mark in level.marks if mark.name == f"{PREFIX}{name}"), None)


def _places(node: pytest.Item) -> Iterator[tuple[str, list[pytest.Mark]]]:
    for holder in reversed(node.listchain()):
        if holder is node:
            yield from _of_function(node)
        elif isinstance(holder, pytest.Class):
            yield from _of_class(holder)
        else:
            yield holder.nodeid or "the session", holder.own_markers


def _of_function(item: pytest.Item) -> Iterator[tuple[str, list[pytest.Mark]]]:
    parameters = _among(item.own_markers, getattr(getattr(item, "callspec", None), "marks", ()))
    written = _among(item.own_markers, _unpacked(getattr(getattr(item, "obj", None), "pytestmark", ())))
    known = {*map(id, parameters), *map(id, written)}
    places = [place for place, mark in enumerate(item.own_markers) if id(mark) in known]
    first = min(places, default=0)
    added = [(place, mark) for place, mark in enumerate(item.own_markers) if id(mark) not in known]
    yield "what a plugin adds to it", [mark for place, mark in added if place < first]
    yield PARAMETERS, parameters
    yield FUNCTION, written
    yield "what a plugin adds to it", [mark for place, mark in added if place >= first]


def _of_class(node: pytest.Class) -> Iterator[tuple[str, list[pytest.Mark]]]:
    rest = list(node.own_markers)
    by_class = []
    for kind in node.obj.__mro__:
        own = _among(rest, _unpacked(kind.__dict__.get("pytestmark", ())))
        rest = [mark for mark in rest if not any(mark is other for other in own)]
        by_class.append((f"class {kind.__qualname__}", own))
    yield node.nodeid, rest
    yield from by_class


def _among(marks: Iterable[pytest.Mark], wanted: Iterable[pytest.Mark]) -> list[pytest.Mark]:
    """Those marks that are the very objects which are wanted, each once: equal ones may stand in several places."""
    identities = set(map(id, wanted))
    return list({id(mark): mark for mark in marks if id(mark) in identities}.values())


def _unpacked(marks: Any) -> list[pytest.Mark]:
    """The marks of a `pytestmark`, which holds one or several, with or without their decorator."""
    several = marks if isinstance(marks, (list, tuple)) else [marks]
    return [mark.mark if isinstance(mark, pytest.MarkDecorator) else mark for mark in several]
