"""Where tokens first differ, the two scores must be within 1e-5: a rule known from model libraries' own tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cases import Case

__all__ = ["scores_at_mismatch"]

TOLERANCE = 1e-5


def scores_at_mismatch(case: Case) -> str | None:
    """The first mismatch whose log-probabilities of either side's token are further apart."""
    for own, theirs in case.decoded:
        place = case.first_difference(own, theirs)
        if place is None:
            continue
        gap = abs(float(own.logprobs.token_logprobs[place] - theirs.logprobs.token_logprobs[place]))
        if not gap <= TOLERANCE:
            return f"scores are {gap:.1e} apart at token {place}"
    return None
