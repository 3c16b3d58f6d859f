"""Saved after use, and loaded from there."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pytest_llmopt.core.engine import Saves
from pytest_llmopt.core.errors import RequestError
from pytest_llmopt.core.relation import NotApplicableError
from pytest_llmopt.relations._large import refuse_large, second_copy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["save_reload"]


def save_reload(subject: Subject) -> Iterator[Pair]:
    """What is saved after use is what was running, and saving changes nothing in what runs on."""
    if subject.reopen is None or not isinstance(subject.engine, Saves):
        msg = "its engine cannot save a model" if subject.reopen else "nothing here can load it again"
        raise NotApplicableError(msg)
    refuse_large(subject, "save_reload")
    if subject.engine.draft is not None:
        msg = "its draft stays where it is: save and compare the target without one"
        raise NotApplicableError(msg)
    variant = subject.engine.variant
    with tempfile.TemporaryDirectory(prefix="llmopt-") as name:
        # A copy of its own: where saving does harm, no later test shall suffer from it.
        with closing(second_copy(subject, variant)) as engine:
            subject.again("loaded for saving", engine)
            try:
                cast("Saves", engine).save(Path(name))
            except RequestError as error:
                raise NotApplicableError(str(error)) from None
            running = subject.again("the same engine after it was saved", engine)
        yield from running
        with closing(second_copy(subject, dataclasses.replace(variant, model=name))) as saved:
            yield from subject.again("loaded from what was saved", saved)
