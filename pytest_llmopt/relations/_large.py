"""Relations that need a second copy of the weights ask here first, and get it here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import RequirementMissingError
from pytest_llmopt.core.relation import NotApplicableError
from pytest_llmopt.core.requirements import format_bytes

if TYPE_CHECKING:
    from pytest_llmopt.core.relation import Subject
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.variant import Variant

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


def second_copy(subject: Subject, variant: Variant) -> Side:
    """A variant loaded anew; who calls this closes it.

    Raises:
        NotApplicableError: nothing here can load it, or there is no room for it or what else it needs.
    """
    if subject.reopen is None:
        msg = "nothing here can load it again"
        raise NotApplicableError(msg)
    try:
        return subject.reopen(variant)
    except RequirementMissingError as error:
        raise NotApplicableError(str(error)) from None
