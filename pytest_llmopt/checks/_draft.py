"""The draft model of a candidate, opened apart from it: what the draft says by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import RequirementMissingError

if TYPE_CHECKING:
    from pytest_llmopt.core.engine import Engine


def open_draft(candidate: Engine) -> Engine | None:
    """The candidate's draft model, where it has one, the session can open it, and there is room for it."""
    context = getattr(candidate, "context", None)
    draft = candidate.draft
    if draft is None or context is None or context.open is None:
        return None
    try:
        opened: Engine = context.open(draft)
    except RequirementMissingError as error:
        if error.name != "memory":
            raise
        return None
    return opened
