"""A difference of logarithms with its standard error: how a factor between two noisy sides is estimated and tested."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from pytest_llmopt.core.verdict import Estimate

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import FloatArray

RESOLUTION = 1e-12
"""Added to means before their logarithm is taken; far below any practical limit on a KL divergence in nats."""


@dataclass(frozen=True)
class DriftTest:
    """One test of a candidate's differences against the noise floor's."""

    p_value: float
    """How often a benign candidate would differ this much. NaN where a value is."""
    false_alarm: float
    """The share of the check's false-alarm rate that this test may spend."""
    factor: Estimate
    """How many times the noise floor it is, with the interval that goes with `false_alarm`."""

    @property
    def alarm(self) -> bool:
        """Whether the difference is beyond benign; NaN is."""
        return not self.p_value > self.false_alarm


@dataclass(frozen=True)
class Shift:
    """A mean difference of logarithms, and how far it can be trusted."""

    mean: float
    error: float
    """Its standard error."""
    degrees: float
    """Degrees of freedom of the standard error."""
    n: int
    """Independent values of the smaller side."""

    @property
    def mirrored(self) -> Shift:
        """The same with the two sides exchanged."""
        return replace(self, mean=-self.mean)

    def p_value(self, null: float) -> float:
        """One-sided: how often the mean would be this high if the true one were `null`."""
        if self.error == 0:
            return 1.0 if self.mean <= null else 0.0
        return float(special.stdtr(self.degrees, (null - self.mean) / self.error))

    def factor(self, false_alarm: float) -> Estimate:
        """The exponential, with the interval whose lower end alone errs with probability `false_alarm`."""
        half = -float(special.stdtrit(self.degrees, false_alarm)) * self.error
        with np.errstate(over="ignore"):
            point, low, high = (float(value) for value in np.exp([self.mean, self.mean - half, self.mean + half]))
        return Estimate(point, low, high, self.n, 1 - 2 * false_alarm)


def paired_shift(differences: FloatArray) -> Shift:
    """The shift of paired logarithms, already subtracted: `[pairs]`, at least two."""
    n = len(differences)
    with np.errstate(invalid="ignore"):  # an infinite difference has no spread, and alarms as NaN
        return Shift(float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(n), n - 1, n)


def welch_shift(ours: FloatArray, theirs: FloatArray) -> Shift:
    """The shift between two independent samples of logarithms, at least two each (Welch 1947)."""
    with np.errstate(invalid="ignore"):
        a, b = float(ours.var(ddof=1)) / len(ours), float(theirs.var(ddof=1)) / len(theirs)
        difference = float(ours.mean() - theirs.mean())
    spread = a**2 / (len(ours) - 1) + b**2 / (len(theirs) - 1)
    degrees = (a + b) ** 2 / spread if spread else float(len(ours) + len(theirs) - 2)
    return Shift(difference, math.sqrt(a + b), degrees, min(len(ours), len(theirs)))


def log_resolved(mean: float) -> float:
    """Logarithm of a nonnegative mean, `RESOLUTION` added so that a floor of exactly zero has one."""
    return math.log(mean + RESOLUTION)
