"""What a reference has to be before anything is judged by it, and what its own choice would rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import UnsoundReferenceError
from pytest_llmopt.core.requests import ScoreChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import Continuation, TokenIds


def require_finite_reference(
    names: Sequence[str], given: Sequence[Continuation], scored: Sequence[TopLogprobs]
) -> None:
    """Refuse a reference whose log-probabilities are not finite.

    Args:
        names: the prompts.
        given: what was scored of each.
        scored: what the reference gave.

    Raises:
        UnsoundReferenceError: naming the first prompt and the position in its text, context included.
    """
    bad = [int((~item.is_finite).sum()) for item in scored]
    if not any(bad):
        return
    row = next(place for place, count in enumerate(bad) if count)
    place = int(np.flatnonzero(~scored[row].is_finite)[0])
    positions = sum(len(item) for item in scored)
    at = f"position {len(given[row].prompt_ids) + place} of prompt {names[row]} (token {place} after what it was given)"
    msg = (
        f"the reference itself is not finite: its log-probabilities hold NaN or infinity at {at}, at {sum(bad)} of "
        f"{positions} positions in all, so nothing can be judged by it. Look at its weights for NaN, at its dtype for "
        "an overflow (float16: try bfloat16 or float32), and at its attention kernel for rows without a key"
    )
    raise UnsoundReferenceError(msg)


def choices(
    reference: Side, given: Sequence[Continuation], scored: Sequence[TopLogprobs], stop_token_ids: TokenIds = ()
) -> Sequence[TopLogprobs]:
    """What the reference's choice of each token rests on: behind its logits processors, where it has any.

    A penalty that both sides have makes another token the best one; by the bare log-probabilities that would be regret.
    """
    if not given or not reference.can(ScoreChoice):
        return scored
    processed = reference.ask(ScoreChoice(tuple(given), stop_token_ids))
    return scored if processed is None else processed
