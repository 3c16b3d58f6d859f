"""The draft model of a candidate, opened apart from it: what the draft says by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmopt.core.engine import Engine


def open_draft(candidate: Engine) -> Engine | None:
    """The candidate's draft model, where it has one and the session can open it."""
    context = getattr(candidate, "context", None)
    draft = candidate.draft
    if draft is None or context is None or context.open is None:
        return None
    opened: Engine = context.open(draft)
    return opened
