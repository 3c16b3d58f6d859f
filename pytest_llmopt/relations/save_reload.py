"""Saved after use, and loaded from there."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmopt.core.engine import Saves
from pytest_llmopt.core.errors import RequestError, RequirementMissingError
from pytest_llmopt.core.relation import NotApplicableError
from pytest_llmopt.relations._large import refuse_large

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.relation import Pair, Subject

__all__ = ["save_reload"]


def save_reload(subject: Subject) -> Iterator[Pair]:
    """What is saved after use is what was running."""
    if subject.reopen is None or not isinstance(subject.engine, Saves):
        msg = "its engine cannot save a model" if subject.reopen else "nothing here can load it again"
        raise NotApplicableError(msg)
    refuse_large(subject, "save_reload")
    with tempfile.TemporaryDirectory(prefix="llmopt-") as name:
        try:
            subject.engine.save(Path(name))
            engine = subject.reopen(dataclasses.replace(subject.engine.variant, model=name))
        except (RequestError, RequirementMissingError) as error:
            raise NotApplicableError(str(error)) from None
        with closing(engine):
            yield from subject.again("saved and loaded from there", engine)
