"""At the first difference, each side's token must be among the other's five best: a rule known from serving engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cases import Case

__all__ = ["top_k_membership"]

BEST = 5


def top_k_membership(case: Case) -> str | None:
    """The first prompt whose first difference is no near choice; what follows a difference is not looked at."""
    for own, theirs in case.decoded:
        place = case.first_difference(own, theirs)
        if place is None:
            continue
        near = own.token_ids[place] in theirs.logprobs.top_ids[place, :BEST]
        near &= theirs.token_ids[place] in own.logprobs.top_ids[place, :BEST]
        if not near:
            return f"token {place} is not among the {BEST} best"
    return None
