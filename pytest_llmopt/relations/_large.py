"""Relations that need a second copy of the weights ask here first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.relation import NotApplicableError
from pytest_llmopt.core.requirements import format_bytes

if TYPE_CHECKING:
    from pytest_llmopt.core.relation import Subject

LARGE = 2**30
"""Bytes of weights beyond which nobody gets a second copy unasked."""


def refuse_large(subject: Subject, name: str) -> None:
    """Refuse a model whose second copy would be a burden, unless the relation was named.

    Raises:
        NotApplicableError: it is large.
    """
    held = subject.engine.footprint().weight_bytes
    if held > LARGE and not subject.asked:
        msg = f"a second copy of {format_bytes(held)} is not made unasked: name it, relations=({name!r},)"
        raise NotApplicableError(msg)
