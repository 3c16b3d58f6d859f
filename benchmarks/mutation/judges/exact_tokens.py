"""Greedy tokens must be the same, to the last: the rule of most test suites. It decodes twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cases import Case

__all__ = ["exact_tokens"]


def exact_tokens(case: Case) -> str | None:
    """How many prompts differ."""
    different = sum(own.token_ids != theirs.token_ids for own, theirs in case.decoded)
    return f"{different} of {len(case.decoded)} prompts differ" if different else None
