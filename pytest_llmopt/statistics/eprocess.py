"""Evidence that tokens were not drawn from their target distribution, valid whenever one chooses to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import EmptySampleError, PositionMismatchError
from pytest_llmopt.statistics.divergence import require_same_positions
from pytest_llmopt.statistics.sampling_numbers import NUMBER_STATISTICS
from pytest_llmopt.statistics.sampling_statistics import DRAFT_STATISTICS, TARGET_STATISTICS, Outcomes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_llmopt.core.logprobs import BoolArray, FloatArray, TopLogprobs
    from pytest_llmopt.statistics.warping import WarpedLogprobs

SMALLEST_THETA = 0.05
DOUBLINGS = 5
"""Theta runs over plus and minus 0.05, 0.1, 0.2, 0.4, 0.8 and 1.6."""

ALL = "all"
"""The stratum of every token."""


@dataclass(frozen=True, eq=False)
class SamplingEvidence:
    """How much was won by betting against the target distribution, in nats."""

    log_wealth: FloatArray
    """After each token, prompts one after the other; starts from 0: `[tokens]`."""
    threshold: float
    """The log-wealth that lossless sampling ever reaches with at most the stated probability."""
    by_statistic: Mapping[str, float]
    """The highest log-wealth of each statistic alone, over all tokens."""
    by_stratum: Mapping[str, float]
    """The highest log-wealth of each stratum alone, over all statistics."""
    violations: int
    """Tokens drawn from outside the support. One is enough for an infinite wealth."""
    uncertain: int
    """Tokens that rounding may have let into the support, and that are no evidence."""

    @property
    def peak(self) -> float:
        """The highest log-wealth so far, NaN where it was ever undefined."""
        return max(0.0, float(self.log_wealth.max())) if not np.isnan(self.log_wealth).any() else math.nan

    @property
    def alarm(self) -> bool:
        """Whether the wealth ever exceeded the threshold, or became NaN."""
        return not self.peak <= self.threshold

    @property
    def tokens_to_alarm(self) -> int | None:
        """How many tokens it took, or None where there is no alarm."""
        return int(np.argmin(self.log_wealth <= self.threshold)) + 1 if self.alarm else None


def sampling_evidence(
    targets: Sequence[WarpedLogprobs],
    drafts: Sequence[TopLogprobs] | None = None,
    *,
    strata: Mapping[str, Sequence[BoolArray]] | None = None,
    beside: Sequence[int | None] | None = None,
    false_alarm: float = 1e-4,
    floor_kl: float = 0.0,
) -> SamplingEvidence:
    """Evidence against the hypothesis that every token was drawn from its target distribution, in nats.

    For a statistic f and a number theta the wealth, the product over tokens of exp(theta f(x)) / E_p[exp(theta f)], is
    a martingale that starts at 1 if x is drawn from p given the past. So is an average of such products, here over the
    grid of theta, the statistics of `sampling_statistics` and the strata; by Ville's inequality it ever exceeds
    1 / false_alarm with probability at most `false_alarm`, whatever rule stops the sampling (Shafer et al. 2011, "Test
    martingales, Bayes factors and p-values"; Ramdas et al. 2023, "Game-theoretic statistics and safe anytime-valid
    inference"). More tokens only add evidence.

    Assumes that each token's randomness is fresh: two prompts sampled with one seed are not two samples. A draft may be
    any distribution that was known before the token was drawn; that of the real draft has the most power.

    What can be won per token is the KL divergence of what is drawn from what should be, so a draft that is nearly the
    target hides the bugs of its verification: at 87 % acceptance 80 % ensemble verification leaves 0.006 nats a token.
    About 5 nats of all evidence are the price of not knowing the bug beforehand.

    Args:
        targets: the target's warped log-probabilities of the tokens drawn, one element per prompt.
        drafts: the draft's, warped as the engine warps them, at the same positions.
        strata: per name, which tokens of each prompt belong to it, such as those at one place of the draft block or
            after a rejection. Must be known before the token is drawn. All tokens together are always one; it gets half
            of the mixture, the others equal shares of the rest.
        beside: per prompt, the place in `targets` of an earlier one that was drawn in the same call, such as the row
            above it; None where there is none. Rows of a batch are as independent as any two texts.
        false_alarm: probability of an alarm, ever, under lossless sampling.
        floor_kl: mean KL divergence per token, after warping, between these targets and those the candidate acted on,
            that rounding alone explains; see `floor_allowance`.

    Raises:
        EmptySampleError: there is no token.
        PositionMismatchError: a draft scored other tokens than its target, or a stratum covers other tokens.
        ValueError: a prompt is drawn beside itself or a later one.
    """
    tokens = sum(len(target.logprobs) for target in targets)
    if tokens == 0:
        msg = f"no tokens to test in {len(targets)} prompts"
        raise EmptySampleError(msg)
    outcomes = _outcomes(targets, drafts, beside)
    masks: dict[str, BoolArray] = {ALL: np.ones(tokens, bool)}
    for name, parts in (strata or {}).items():
        masks[name] = np.concatenate([np.asarray(part, bool) for part in parts])
        if len(masks[name]) != tokens:
            msg = f"stratum {name!r} covers {len(masks[name])} tokens, not the {tokens} drawn"
            raise PositionMismatchError(msg)
    statistics = {**TARGET_STATISTICS, **NUMBER_STATISTICS, **(DRAFT_STATISTICS if drafts is not None else {})}

    wealth = {name: np.empty((len(statistics), tokens)) for name in masks}
    for row, statistic in enumerate(statistics.values()):
        bets = [_bets(prompt, statistic) for prompt in outcomes]
        gains = np.concatenate([bet.gains for bet in bets], axis=1)
        variances = np.concatenate([bet.variances for bet in bets], axis=1)
        for name, mask in masks.items():
            won = np.cumsum(gains[:, mask], axis=1) - floor_allowance(variances[:, mask], floor_kl)
            path = np.concatenate([[0.0], _log_mean_exp(won)])
            wealth[name][row] = path[np.cumsum(mask)]  # it changes at the stratum's own tokens only
    by_stratum = {name: _log_mean_exp(paths) for name, paths in wealth.items()}
    shares = {name: 0.5 / (len(masks) - 1) for name in masks if name != ALL}
    shares[ALL] = 1.0 - sum(shares.values())
    paths = np.stack([by_stratum[name] + math.log(share) for name, share in shares.items()])
    return SamplingEvidence(
        log_wealth=_log_mean_exp(paths) + math.log(len(paths)),
        threshold=-math.log(false_alarm),
        by_statistic={name: float(path.max()) for name, path in zip(statistics, wealth[ALL], strict=True)},
        by_stratum={name: float(path.max()) for name, path in by_stratum.items()},
        violations=sum(int(prompt.impossible.sum()) for prompt in outcomes),
        uncertain=sum(int(prompt.uncertain.sum()) for prompt in outcomes),
    )


def floor_allowance(variances: FloatArray, floor_kl: float) -> FloatArray:
    """What rounding could have added to a log-wealth after each token, in nats: the shape of `variances`.

    Let x be drawn from p' instead of p, and g = exp(theta f) / E_p[exp(theta f)], with E_p[g] = 1. Then
    E_p'[g] - 1 = E_p[(p'/p - 1) (g - 1)], at most sqrt(chi2(p', p) Var_p(g)) by Cauchy and Schwarz; over many tokens
    the log-wealth drifts by at most sqrt(sum of chi2) sqrt(sum of Var), by Cauchy and Schwarz again. For distributions
    that differ by rounding chi2 is twice the KL divergence. The bound is attained only where p' leans towards g at
    every token, which rounding does not do, so it is on the safe side.

    Args:
        variances: Var_p(g) of each token bet on, in the order drawn: `[thetas, tokens]`.
        floor_kl: mean KL divergence per token between p' and p, in nats.
    """
    if floor_kl == 0:
        return np.zeros_like(variances)
    chi2 = 2 * floor_kl * np.arange(1, variances.shape[1] + 1)
    return np.sqrt(chi2 * np.cumsum(variances, axis=1))


@dataclass(frozen=True, eq=False)
class _Bets:
    gains: FloatArray
    """Log of each theta's factor: `[thetas, tokens]`."""
    variances: FloatArray
    """Variance of that factor under the target: `[thetas, tokens]`."""


def _outcomes(
    targets: Sequence[WarpedLogprobs], drafts: Sequence[TopLogprobs] | None, beside: Sequence[int | None] | None
) -> list[Outcomes]:
    places: Sequence[int | None] = [None] * len(targets) if beside is None else beside
    for row, other in enumerate(places):
        if other is not None and not 0 <= other < row:
            msg = f"prompt {row} cannot be drawn beside prompt {other}: only one before it is known"
            raise ValueError(msg)
    if drafts is not None:
        for target, draft in zip(targets, drafts, strict=True):
            require_same_positions(target.logprobs, draft)
    outcomes: list[Outcomes] = []
    for row, (target, place) in enumerate(zip(targets, places, strict=True)):
        neighbor = None if place is None else outcomes[place]
        outcomes.append(Outcomes.of(target, None if drafts is None else drafts[row], neighbor))
    return outcomes


def _bets(outcomes: Outcomes, statistic: Callable[[Outcomes], FloatArray]) -> _Bets:
    values, p = statistic(outcomes), np.exp(outcomes.log_p)
    drawn = np.take_along_axis(values, outcomes.drawn[:, None], axis=1)[:, 0]
    blank = np.isneginf(outcomes.log_p).all(axis=1)  # where no token is certain nothing is bet
    gains, variances = [], []
    for sign in (1, -1):
        tilt = np.exp(sign * SMALLEST_THETA * values)
        mean = np.einsum("ij,ij->i", p, tilt) + blank
        for doubling in range(DOUBLINGS + 1):
            tilt *= tilt
            square = np.einsum("ij,ij->i", p, tilt) + blank  # the mean of the squared factor: that of twice the theta
            gains.append(sign * SMALLEST_THETA * 2**doubling * drawn - np.log(mean))
            variances.append(np.maximum(square / mean**2 - 1, 0.0))
            mean = square
    gain = np.where(outcomes.uncertain, 0.0, np.stack(gains))
    return _Bets(np.where(outcomes.impossible, np.inf, gain), np.stack(variances))


def _log_mean_exp(log_wealths: FloatArray) -> FloatArray:
    """Log of the mean wealth over the first axis."""
    peak = log_wealths.max(axis=0, initial=-np.inf)
    shift = np.where(np.isfinite(peak), peak, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        return np.log(np.exp(log_wealths - shift).mean(axis=0)) + shift
