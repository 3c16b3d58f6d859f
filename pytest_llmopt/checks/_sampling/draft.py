"""The draft model of a candidate, opened apart from it: what the draft says by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import RequirementMissingError

if TYPE_CHECKING:
    from pytest_llmopt.core.side import Side


def unopened_draft(candidate: Side, draft: object | None) -> dict[str, str]:
    """That a draft was not asked: what it proposed is then judged by what was accepted alone."""
    if candidate.draft is None or draft is not None:
        return {}
    return {"draft model": "it is not opened apart: nothing here can open it, or there is no room for it"}


def open_draft(candidate: Side) -> Side | None:
    """The candidate's draft model, where it has one, the session can open it, and there is room for it."""
    draft, open_ = candidate.draft, candidate.context.open
    if draft is None or open_ is None:
        return None
    try:
        return open_(draft)
    except RequirementMissingError as error:
        if error.name != "memory":
            raise
        return None
