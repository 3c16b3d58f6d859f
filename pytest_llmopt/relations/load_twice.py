"""A second load of the same thing."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import NotApplicableError
from pytest_llmopt.relations._large import refuse_large, second_copy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["load_twice"]


def load_twice(subject: Subject) -> Iterator[Pair]:
    """Every load gives the same model."""
    if subject.reopen is None:
        msg = "nothing here can load it again"
        raise NotApplicableError(msg)
    refuse_large(subject, "load_twice")
    with closing(second_copy(subject, subject.engine.variant)) as engine:
        yield from subject.again("loaded a second time", engine)
