"""One text through the model's forward, called in every way in which programs call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import RequestError
from pytest_llmopt.core.relation import NotApplicableError, Pair, RelationBrokenError
from pytest_llmopt.core.requests import ListEntryPoints, ScoreThrough

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.relation import Subject
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import Continuation

__all__ = ["entry_points"]

CONTEXT, TOKENS = 12, 36
"""An end of text in the context, and enough tokens for a window of a small model to be left."""
SAME = {"float64": 1e-3, "float32": 1e-3}
SAME_16 = 0.25
"""Nats by which log-probabilities of one function differ at most, by dtype and in 16 bits: beyond that the reference is
asked whether the library itself means another function by such a call."""
KERNELS_MAY_REFUSE = frozenset({"attention weights"})
"""Fused kernels have none to give, which libraries say by an error."""


def entry_points(subject: Subject) -> Iterator[Pair]:
    """The forward gives the same logits, whatever else it is given or asked for."""
    engine = subject.engine
    names = _names(engine)
    if not names:
        msg = "its engine has one way in only"
        raise NotApplicableError(msg)
    part = subject.part(0, CONTEXT, TOKENS)
    (plain,) = engine.score([part])
    refused: list[str] = []
    for name in names:
        try:
            changed = engine.ask(ScoreThrough(name, part))
        except RequestError as error:
            if name not in KERNELS_MAY_REFUSE and _holds(subject.reference, name, part):
                refused.append(str(error))
            continue
        if _same(plain, changed, engine.dtype) or subject.reference is None or _holds(subject.reference, name, part):
            yield Pair(f"a forward with {name}", "text", part, plain, changed)
    if refused:
        raise RelationBrokenError("; ".join(refused) + ". The reference answers")


def _names(engine: Side) -> tuple[str, ...]:
    return engine.ask(ListEntryPoints()) if engine.can(ListEntryPoints, ScoreThrough) else ()


def _holds(reference: Side | None, name: str, part: Continuation) -> bool:
    """Whether the reference answers such a call as it answers the plain one: then the candidate has to."""
    if reference is None or name not in _names(reference):
        return False
    (plain,) = reference.score([part])
    try:
        return _same(plain, reference.ask(ScoreThrough(name, part)), reference.dtype)
    except RequestError:
        return False


def _same(plain: TopLogprobs, changed: TopLogprobs, dtype: str) -> bool:
    difference = np.abs(plain.token_logprobs - changed.token_logprobs)
    return bool(np.all(difference <= SAME.get(dtype, SAME_16)))
