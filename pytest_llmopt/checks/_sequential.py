"""One sequential design for every check whose sample grows: look, judge, take more until it is decided.

Every look at a growing sample is a chance to be wrong. Where the evidence does not allow for that by itself, the error
rate of the whole design is shared among all looks that there may be (Bonferroni), whether they are taken or not. An
e-process does (Ville's inequality), so its looks need not be counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from pytest_llmopt.core.verdict import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DECIDED = frozenset({Status.PASS, Status.FAIL})


class Judged(Protocol):
    """What is thought of a sample: a verdict, or as much of one as decides whether to go on."""

    @property
    def status(self) -> Status:
        """INCONCLUSIVE asks for more."""
        ...


Opinion = TypeVar("Opinion", bound=Judged)


@dataclass(frozen=True)
class Look:
    """One step of a design."""

    take: Callable[[], object]
    """Takes what the sample grows by."""
    decides: frozenset[Status] = DECIDED
    """The statuses that end the design after this look. A first, cheap one may only be allowed to fail."""


@dataclass(frozen=True)
class Design:
    """An error rate, and how many looks share it."""

    error_rate: float
    """Of wrong decisions, over all looks together."""
    looks: int = 1
    """The most that there can be; 1 where the evidence holds at any number of looks."""

    @property
    def of_a_look(self) -> float:
        """The error rate that each look may spend."""
        return self.error_rate / self.looks

    def run(self, looks: Iterable[Look], judge: Callable[[float], Opinion]) -> Opinion:
        """The opinion at which the design ended: of the look that decided, or of the last one there was.

        Args:
            looks: at least one, in order. They may be made while they are taken, by what was seen so far.
            judge: the opinion on all that was taken, at the error rate of a look.

        Raises:
            ValueError: there is no look.
        """
        opinion = None
        for look in looks:
            look.take()
            opinion = judge(self.of_a_look)
            if opinion.status in look.decides:
                break
        if opinion is None:
            msg = "a design without a look decides nothing"
            raise ValueError(msg)
        return opinion


def doublings(first: int, most: int) -> list[int]:
    """Sizes of a sample that doubles: `first`, then twice as many each time, and `most` at last."""
    sizes = [min(first, most)]
    while sizes[-1] < most:
        sizes.append(min(2 * sizes[-1], most))
    return sizes
