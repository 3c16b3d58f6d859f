"""Saved after use, and loaded from there."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import closing
from typing import TYPE_CHECKING

from pytest_llmopt.core.checkpoint import differences
from pytest_llmopt.core.errors import ModelError, RequestError
from pytest_llmopt.core.relation import NotApplicableError, RelationBrokenError
from pytest_llmopt.core.requests import ReadWeights, SaveCheckpoint
from pytest_llmopt.relations._large import refuse_large, second_copy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_llmopt.core.inspection import Inspection
    from pytest_llmopt.core.relation import Pair, Subject
    from pytest_llmopt.core.side import Side

__all__ = ["save_reload"]

NAMED = 3
"""Tensors that a message names."""


def save_reload(subject: Subject) -> Iterator[Pair]:
    """What is saved after use is what was running, and saving changes nothing in what runs on.

    Beside the evidence about tokens, the saved copy must say what the model says beside its weights, such as its end
    tokens, its tokenizer and whether the head is tied. What a step after loading did to the weights is in the copy, and
    is not done to it again.

    Raises:
        RelationBrokenError: the copy cannot be loaded, says something else, or holds other weights.
    """
    if subject.reopen is None or not subject.engine.can(SaveCheckpoint):
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
                engine.ask(SaveCheckpoint(name))
            except RequestError as error:
                raise NotApplicableError(str(error)) from None
            running = subject.again("the same engine after it was saved", engine)
            weights = _weights(engine)
        yield from running
        try:
            saved = second_copy(subject, dataclasses.replace(variant, model=name))
        except ModelError as error:
            msg = f"what was saved cannot be loaded: {error}"
            raise RelationBrokenError(msg) from error
        with closing(saved):
            yield from subject.again("loaded from what was saved", saved)
            _refuse_other_facts(subject.inspection, saved.inspect())
            _refuse_other_weights(weights, _weights(saved))


def _refuse_other_facts(running: Inspection, saved: Inspection) -> None:
    """Accept a saved copy that says beside its weights what the running model says.

    Raises:
        RelationBrokenError: naming each fact with both values.
    """
    found = differences(running.checkpoint, saved.checkpoint)
    if found:
        msg = f"the saved copy says something else beside its weights: {'; '.join(map(str, found))}"
        raise RelationBrokenError(msg)


def _weights(engine: Side) -> Mapping[str, object]:
    return engine.ask(ReadWeights()) if engine.can(ReadWeights) else {}


def _refuse_other_weights(running: Mapping[str, object], saved: Mapping[str, object]) -> None:
    """Accept a saved copy whose tensors are those that ran, to the last bit.

    A change too small for the evidence about tokens is a change: saving is no arithmetic.

    Raises:
        RelationBrokenError: naming the first tensors that differ.
    """
    shared = [name for name in running if name in saved]
    other = [name for name in shared if running[name] != saved[name]]
    if other:
        msg = (
            f"the saved copy holds other weights than ran: {len(other)} of {len(shared)} tensors differ "
            f"({', '.join(other[:NAMED])}); compare what save_pretrained writes with what the model holds"
        )
        raise RelationBrokenError(msg)
