"""What a study of one test is: a simulation, the rates that the test promises, and effects that it should see."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Trial = Callable[["Draw"], Sequence[bool]]

NULL = ""
"""The name of no effect."""


@dataclass(frozen=True)
class Rate:
    """One promise: how often a kind of alarm comes at most where nothing is wrong."""

    nominal: float
    label: str = ""
    """Which alarm, where a test has several."""


LEVELS = (Rate(1e-4), Rate(1e-2), Rate(5e-2))
"""A rate of 1e-4 cannot be verified with some thousand runs, so that every test is asked for larger ones as well."""

SIDES = (Rate(0.05, "either side"), Rate(0.025, "too high"), Rate(0.025, "too low"))
"""How a 95 % interval misses: on either side, lies wholly above the truth, lies wholly below it."""


@dataclass(frozen=True)
class Draw:
    """What one trial gets: its own random numbers, which trial it is, and the effect to plant."""

    rng: np.random.Generator
    index: int
    effect: Any
    """None where nothing is wrong."""


@dataclass(frozen=True)
class Study:
    """One test under its null hypothesis and under effects."""

    name: str
    trial: Trial
    """Whether each of the rates alarmed, in their order."""
    rates: tuple[Rate, ...] = LEVELS
    effects: Mapping[str, Any] = field(default_factory=dict)
    """What to plant, by the name that the report gives it."""
    null_runs: int = 2000
    power_runs: int = 200
    chunk: int = 250
    """Trials that one process does in one go."""
    note: str = ""
    """What was simulated."""

    def run(self, effect: str, seed: int, trials: range) -> list[int]:
        """How often each rate alarmed. Every trial has random numbers of its own, whatever process it runs in."""
        counts = np.zeros(len(self.rates), int)
        stream = zlib.crc32(f"{self.name}/{effect}".encode())
        for index in trials:
            rng = np.random.default_rng([seed, stream, index])
            counts += np.asarray(self.trial(Draw(rng, index, None if effect == NULL else self.effects[effect])), bool)
        return [int(count) for count in counts]


def interval(hits: int, runs: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % limits of a share."""
    ends = stats.binomtest(hits, runs).proportion_ci(0.95, method="exact")
    return float(ends.low), float(ends.high)


def at_levels(p_value: float) -> list[bool]:
    """Whether a p-value alarms at each of `LEVELS`; NaN does."""
    return [not p_value > rate.nominal for rate in LEVELS]


def beyond_levels(log_wealth: float) -> list[bool]:
    """Whether the highest log-wealth alarms at each of `LEVELS`; NaN does."""
    return [not log_wealth <= -np.log(rate.nominal) for rate in LEVELS]


def sides(low: float, high: float, truth: float) -> list[bool]:
    """How an interval misses the truth, for `SIDES`."""
    return [low > truth or high < truth, low > truth, high < truth]
