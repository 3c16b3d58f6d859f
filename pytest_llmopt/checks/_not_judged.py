"""What a check could not look at on the engines that it was given: named with its reason, never counted as sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.logprobs import FloatArray, TopLogprobs
    from pytest_llmopt.core.requests import Request
    from pytest_llmopt.core.side import Role, Side

UNSEEN_MASS = 0.01
"""Mean probability outside the log-probabilities that an engine gives, beyond which its divergences are called lower
bounds: the first 1,024 tokens of a large vocabulary hold all but about 0.001 at temperature 1."""


def unanswered(side: Side, wanted: Mapping[str, type[Request[Any]]]) -> dict[str, str]:
    """Those things, by name, that a side's engine does not answer the request for; with the reason."""
    return {name: f"{side.role}: {side.unanswered(kind)}" for name, kind in wanted.items() if not side.can(kind)}


@dataclass(frozen=True, eq=False)
class Tail:
    """What log-probabilities of the most probable tokens leave out."""

    known: int
    """Tokens known at each position."""
    vocab_size: int
    mass: FloatArray
    """The probability of all others: `[tokens]`."""

    @classmethod
    def of(cls, logprobs: TopLogprobs) -> Tail:
        """Of some positions."""
        return cls(logprobs.k, logprobs.vocab_size, logprobs.tail_mass)


def unseen_tail(tails: Sequence[Tail], role: Role = "candidate") -> dict[str, str]:
    """Whether much of a side's distributions is not known: then a small divergence proves little."""
    mass = float(np.mean(np.concatenate([item.mass for item in tails]))) if tails else 0.0
    if mass <= UNSEEN_MASS:
        return {}
    fewest = min(tails, key=lambda item: item.known)
    return {
        "tail" if role == "candidate" else f"{role} tail": (
            f"the {role} gives {fewest.known} of {fewest.vocab_size} log-probabilities at a position, which leave "
            f"out {mass:.1%} of the probability: KL divergences are lower bounds"
        )
    }
