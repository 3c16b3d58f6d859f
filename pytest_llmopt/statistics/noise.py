"""What a model differs from itself by under benign changes, and how far the worst of many positions may be out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import EmptySampleError
from pytest_llmopt.statistics.divergence import require_same_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import FloatArray, TopLogprobs

FEWEST_POSITIONS = 40
"""Below this a sample says nothing about its tail."""

NEAR_TIE = 1.0
"""A lead below this many nats counts as near a tie: any tie margin should come out well below it."""

_TAIL_SHARE, _FEWEST_IN_TAIL = 0.05, 20


@dataclass(frozen=True)
class NoiseFloor:
    """The size of benign differences, and a generalized Pareto tail to extrapolate from."""

    positions: int
    """The sample it was measured on."""
    scale: float
    """Root mean square of the differences: what "times the noise floor" refers to."""
    worst: float
    """The largest one seen."""
    tail_start: float
    """Beyond this value the tail model holds."""
    tail_share: float
    """Share of the sample beyond it."""
    tail_scale: float
    """Scale of the excesses over it."""
    tail_shape: float
    """Shape of the excesses, one standard error above its estimate."""

    def tail_probability(self, value: float) -> float:
        """The probability that one benign difference exceeds a value that lies in the tail; NaN for a NaN floor."""
        excess = value - self.tail_start
        if math.isnan(excess) or math.isnan(self.scale):
            return math.nan
        if excess <= 0:
            return 1.0
        if self.tail_scale == 0 or math.isinf(excess):
            return 0.0
        return self.tail_share * math.exp(-math.log1p(self.tail_shape * excess / self.tail_scale) / self.tail_shape)

    def p_value(self, worst: float, positions: int) -> float:
        """The probability that the worst of that many benign differences exceeds `worst`."""
        single = self.tail_probability(worst)
        return -math.expm1(positions * math.log1p(-single)) if single < 1 else single

    def bound(self, positions: int, false_alarm: float = 1e-4) -> float:
        """What all of that many benign differences stay within, except with probability `false_alarm`."""
        single = -math.expm1(math.log1p(-false_alarm) / positions)
        if math.isnan(self.scale):
            return math.nan
        if single >= self.tail_share or self.tail_scale == 0:
            return self.tail_start
        growth = math.expm1(self.tail_shape * math.log(self.tail_share / single))
        return self.tail_start + self.tail_scale / self.tail_shape * growth


def noise_floor(differences: Sequence[FloatArray]) -> NoiseFloor:
    """The noise floor of differences (drift, KL, lead drift) between a model and itself under benign changes.

    The worst of n positions extrapolates from the largest 5 % of the sample, at least 20 values, by peaks over
    threshold: their excesses follow a generalized Pareto law (Pickands 1975), fitted by probability-weighted moments
    (Hosking and Wallis 1987, Technometrics 29). Of k excesses the shape is known to (1 + shape) / sqrt(k) (Smith 1987,
    Annals of Statistics 15), and a bound far outside of the sample grows exponentially with it. One such standard error
    is added, at the same mean: without it, log-normal scales of the positions leave a bound of 1e-2 in 3 % of samples
    (`benchmarks/calibration/`). The price is width where the tail is light, as that of a softmax's drift is: its scale
    differs by position but is bounded by that of the logits.

    Positions are taken as exchangeable with those it is applied to; repeats of the same prompts under several benign
    changes count as positions, although they share their scales. NaN makes every figure NaN.

    Args:
        differences: any number of arrays, `[positions]` each; signs are ignored.

    Raises:
        EmptySampleError: fewer than `FEWEST_POSITIONS` positions.
    """
    values = [np.abs(np.asarray(part, np.float64)) for part in differences]
    pooled = np.sort(np.concatenate(values)) if values else np.empty(0)
    size = len(pooled)
    if size < FEWEST_POSITIONS:
        msg = f"a noise floor needs at least {FEWEST_POSITIONS} positions, got {size}"
        raise EmptySampleError(msg)
    if not np.isfinite(pooled).all():
        return NoiseFloor(size, *[math.nan] * 6)
    start = float(pooled[size - max(_FEWEST_IN_TAIL, math.ceil(_TAIL_SHARE * size)) - 1])
    excesses = pooled[pooled > start] - start
    scale, shape = _pareto(excesses)
    rms = float(np.sqrt((pooled**2).mean()))
    return NoiseFloor(size, rms, float(pooled[-1]), start, len(excesses) / size, scale, shape)


def lead_drift(reference: TopLogprobs, candidate: TopLogprobs, within: float = NEAR_TIE) -> FloatArray:
    """How much the reference's lead of its best token over its second best changes, in nats: `[near ties]`.

    Only of positions where that lead is at most `within` nats. A greedy choice flips where this exceeds the lead, so
    its benign bound is the tie margin. Near ties are taken on their own since they are what the margin is for, and
    since their drift has a lighter tail: on a small bf16 Llama the margin for 2,304 positions is 0.22 nats from near
    ties and 0.53 from all positions, with 0.13 and 0.27 the largest drifts seen in three permuted copies.

    NaN where the candidate does not know one of the two tokens.

    Raises:
        PositionMismatchError: the two sides scored different tokens.
        ValueError: the reference knows only one token per position.
    """
    require_same_positions(reference, candidate)
    if reference.k < 2:  # noqa: PLR2004 - best and second best
        msg = "the lead of the best token needs at least the top 2 log-probabilities"
        raise ValueError(msg)
    ours = reference.top_logprobs[:, :2].astype(np.float64)
    theirs = replace(candidate, vocab_size=max(candidate.vocab_size, reference.vocab_size)).lookup(
        reference.top_ids[:, :2],
    )
    with np.errstate(invalid="ignore"):
        lead = ours[:, 0] - ours[:, 1]
        drift = (theirs[:, 0] - theirs[:, 1]) - lead
    return drift[~(lead > within)]


def tie_margin(leads: NoiseFloor, positions: int, false_alarm: float = 1e-4) -> float:
    """The regret up to which a greedy choice is a tie, in nats, at all of that many positions but for `false_alarm`.

    Args:
        leads: the noise floor of `lead_drift`. Where only the emitted token's drift is known, double its floor's bound
            instead: the two tokens of a tie drift apart by at most the sum of both.
        positions: how many positions will be judged.
        false_alarm: probability that a benign difference anywhere exceeds the margin.
    """
    return leads.bound(positions, false_alarm)


def times_floor(value: float, floor: float) -> float:
    """How many times the noise floor a value is: 1 where both are zero, infinite where only the floor is."""
    if floor == 0:
        return 1.0 if value == 0 else math.copysign(math.inf, value)
    return value / floor


def _pareto(excesses: FloatArray) -> tuple[float, float]:
    """Scale and shape, with one standard error added, of a generalized Pareto law for ascending excesses."""
    count = len(excesses)
    if count < 2:  # noqa: PLR2004 - no moments to fit
        return (float(excesses.mean()) if count else 0.0), 1.0
    mean = float(excesses.mean())
    weighted = float((excesses * np.arange(count - 1, -1, -1)).mean()) / (count - 1)
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else 1.0
    shape = min(max(shape, 0.0), 1.0)
    shape += (1 + shape) / math.sqrt(count)
    return mean * max(1 - shape, 0.1), shape
