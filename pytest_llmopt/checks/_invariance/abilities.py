"""What an architecture cannot do: left out and named, as long as the unoptimized model cannot do it either."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.side import Side

LEFT_PADDING, PREFILL_CHUNK = "left_padding", "prefill_chunk"


def lacks(side: Side) -> Mapping[str, str]:
    """What the engine of a side cannot do, with the reason; nothing where it does not know."""
    return side.lacks


def lost(candidate: Side, reference: Side | None) -> Mapping[str, str]:
    """What the candidate cannot do although the reference can: its optimizations broke it. Nothing without a reference.

    The reference is asked only where the candidate lacks something, which is rare.
    """
    own = lacks(candidate)
    if not own or reference is None:
        return {}
    allowed = lacks(reference)
    return {name: reason for name, reason in own.items() if name not in allowed}
