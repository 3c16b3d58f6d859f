"""Functions of the token drawn that losing the target distribution would shift, with their values on every outcome.

Each takes the `Outcomes` of some positions and returns its value on every outcome, `[tokens, outcomes]`. It may use
anything known before the token was drawn (the target p, a draft q, the past), never the token itself: that alone makes
the test built on it exact, so a poor q or clamp costs power and not validity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.statistics.sampling_intervals import Intervals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_llmopt.core.logprobs import BoolArray, FloatArray, IntArray, TopLogprobs
    from pytest_llmopt.statistics.warping import WarpedLogprobs

WIDTH = 256
"""Tokens told apart at a position; the less probable ones are pooled with the tail."""

LOG_RATIO_CLAMP = 4.0
"""The most that log q - log p counts, in nats."""

LOG_P_FLOOR = -20.0
"""The least that a log-probability counts as, in nats."""

MEMORY = 4
"""How many earlier tokens count as drawn just before."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What could be drawn at each position: the most probable tokens, then one bucket for all others.

    The bucket pools the tail and the known tokens beyond `WIDTH`. Nothing is assumed of it but its total mass:
    whichever of its tokens was drawn, the outcome is the bucket. Where rounding could change a filter's support, the
    target is conditioned on the tokens that are in it for certain, which makes it the same whichever of the others are;
    if one of those was drawn the position is no evidence.
    """

    log_p: FloatArray
    """Target's log-probabilities, minus infinity where impossible or uncertain: `[tokens, outcomes]`."""
    log_q: FloatArray | None
    """Draft's log-probabilities of the same outcomes, where there is a draft."""
    drawn_before: BoolArray
    """Whether the outcome is a token that was drawn at one of the `MEMORY` positions before: `[tokens, outcomes]`."""
    rest_log_p: FloatArray
    """Mean log-probability of a token in the bucket: `[tokens]`."""
    drawn: IntArray
    """Which outcome it was: `[tokens]`."""
    impossible: BoolArray
    """Where a token outside the support was drawn: `[tokens]`."""
    uncertain: BoolArray
    """Where a token was drawn that rounding may have let in: `[tokens]`."""
    target: WarpedLogprobs
    """What they are the outcomes of."""
    beside: Outcomes | None
    """Those of a text that was drawn in the same call before this one counts, where there is one."""

    @classmethod
    def of(cls, target: WarpedLogprobs, draft: TopLogprobs | None = None, beside: Outcomes | None = None) -> Outcomes:
        """The outcomes of one prompt's tokens."""
        logprobs = target.logprobs
        certain = np.where(target.boundary, -np.inf, logprobs.top_logprobs.astype(np.float64))
        ids, tail = logprobs.top_ids[:, :WIDTH], logprobs.tail_mass if target.has_tail else np.zeros(len(logprobs))
        rest = np.exp(certain[:, WIDTH:]).sum(axis=1) + tail
        members = (certain[:, WIDTH:] > -np.inf).sum(axis=1) + target.has_tail * (logprobs.vocab_size - logprobs.k)
        here = ids == logprobs.token_ids[:, None]
        drawn = np.where(here.any(axis=1), here.argmax(axis=1), ids.shape[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            log_rest = np.log(rest)
            log_p = np.concatenate([certain[:, :WIDTH], log_rest[:, None]], axis=1)
            certainty = np.logaddexp.reduce(log_p, axis=1, keepdims=True)
            certainty = np.where(np.isneginf(certainty), 0.0, certainty)
            rest_log_p = np.where(members > 0, log_rest - certainty[:, 0] - np.log(members), -np.inf)
        log_p = log_p - certainty
        uncertain = np.isneginf(np.take_along_axis(log_p, drawn[:, None], axis=1)[:, 0]) & ~target.violations
        log_q = None
        if draft is not None:  # a padded output head is not another vocabulary
            wide = replace(draft, vocab_size=max(draft.vocab_size, logprobs.vocab_size))
            log_q = _draft_log_q(wide, ids) - certainty
        seen = _drawn_before(logprobs.token_ids, ids)
        return cls(log_p, log_q, seen, rest_log_p, drawn, target.violations, uncertain, target, beside)

    @cached_property
    def _by_order(self) -> dict[bool, Intervals]:
        return {}

    def intervals(self, *, by_id: bool) -> Intervals:
        """The random numbers that give each known token, tokens in the order of their ids or of their rank."""
        if by_id not in self._by_order:
            self._by_order[by_id] = Intervals.of(self.target, by_id=by_id)
        return self._by_order[by_id]

    def rank_pit(self) -> FloatArray:
        """Probability of the more probable outcomes plus half its own, scaled to [-1, 1]: `[tokens, outcomes]`."""
        p = np.exp(self.log_p)
        return 2 * np.cumsum(p, axis=1) - p - 1


def log_p(outcomes: Outcomes) -> FloatArray:
    """The target's log-probability: tilting by it is tempering, so it sees a wrong temperature."""
    values = np.maximum(outcomes.log_p, LOG_P_FLOOR)
    values[:, -1] = np.maximum(outcomes.rest_log_p, LOG_P_FLOOR)
    return values


def top1(outcomes: Outcomes) -> FloatArray:
    """Whether it is the most probable token: sees greedy drawing, or too little of it."""
    values = np.zeros_like(outcomes.log_p)
    values[:, 0] = 1.0
    return values


def rank_pit(outcomes: Outcomes) -> FloatArray:
    """The mid-rank probability integral transform: sees mass moved along the ranking in any other way."""
    return outcomes.rank_pit()


def pit_lag1(outcomes: Outcomes) -> FloatArray:
    """The transform times that of the token before (0 for a first token): sees a random state used twice."""
    pit = outcomes.rank_pit()
    before = np.take_along_axis(pit, outcomes.drawn[:, None], axis=1)
    before = np.concatenate([np.zeros((1, 1)), np.where(np.isfinite(before), before, 0.0)[:-1]])
    return pit * before[: len(pit)]


def drawn_before(outcomes: Outcomes) -> FloatArray:
    """Whether it was drawn just before: sees random numbers per token id that are used again (one seed each step)."""
    return outcomes.drawn_before.astype(np.float64)


def last_kept(outcomes: Outcomes) -> FloatArray:
    """Whether it is the last token that a filter keeps: sees a filter that keeps one fewer.

    What such a filter leaves out lies inside the support and is rarely much of the mass, so that it is counted twice:
    bets go up to where never drawing it is worth what it can be. Nothing is said where no filter cuts.
    """
    possible = outcomes.log_p > -np.inf
    known, positions = possible[:, :-1], np.arange(len(possible))
    cut = ~known.all(axis=1) & ~possible[:, -1] & (known.sum(axis=1) > 1)
    values = np.zeros_like(outcomes.log_p)
    values[positions, known.shape[1] - 1 - known[:, ::-1].argmax(axis=1)] = 2.0 * cut
    return values


def draft_ratio(outcomes: Outcomes) -> FloatArray:
    """Log q - log p, clamped: at theta 1 the likelihood ratio to the draft; sees drafts accepted too often."""
    return np.clip(_log_ratio(outcomes), -LOG_RATIO_CLAMP, LOG_RATIO_CLAMP)


def accept_probability(outcomes: Outcomes) -> FloatArray:
    """Min(1, q / p): sees a residual that is not the part of p which the draft lacks."""
    return np.exp(np.minimum(_log_ratio(outcomes), 0.0))


def draft_top1(outcomes: Outcomes) -> FloatArray:
    """Whether it is the draft's most probable token: sees a draft that was drawn greedily but verified as sampled."""
    values = np.zeros_like(outcomes.log_p)
    if outcomes.log_q is not None:
        values[np.arange(len(values)), outcomes.log_q[:, :-1].argmax(axis=1)] = 1.0
    return values


TARGET_STATISTICS: Mapping[str, Callable[[Outcomes], FloatArray]] = {
    "log_p": log_p,
    "top1": top1,
    "rank_pit": rank_pit,
    "pit_lag1": pit_lag1,
    "drawn_before": drawn_before,
    "last_kept": last_kept,
}
"""Those that need the target only."""

DRAFT_STATISTICS: Mapping[str, Callable[[Outcomes], FloatArray]] = {
    "draft_ratio": draft_ratio,
    "accept_probability": accept_probability,
    "draft_top1": draft_top1,
}
"""Those that need a draft as well."""


def _log_ratio(outcomes: Outcomes) -> FloatArray:
    if outcomes.log_q is None:
        return np.zeros_like(outcomes.log_p)
    with np.errstate(invalid="ignore"):
        return np.where(np.isneginf(outcomes.log_p), 0.0, outcomes.log_q - outcomes.log_p)


def _drawn_before(token_ids: IntArray, ids: IntArray) -> BoolArray:
    seen: BoolArray = np.zeros((ids.shape[0], ids.shape[1] + 1), bool)
    for back in range(1, MEMORY + 1):
        seen[back:, :-1] |= np.equal(ids[back:], token_ids[:-back, None])
    return seen


def _draft_log_q(draft: TopLogprobs, ids: IntArray) -> FloatArray:
    """The draft's log-probabilities of the target's outcomes; a token unknown to it gets an even share of its tail."""
    log_q = draft.lookup(ids)
    unknown = max(draft.vocab_size - draft.k, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.where(np.isnan(log_q), np.log(draft.tail_mass / unknown)[:, None], log_q)
        rest = np.log(np.clip(1 - np.exp(log_q).sum(axis=1), 0.0, 1.0))
    log_q = np.concatenate([log_q, rest[:, None]], axis=1)
    return np.where(np.isnan(draft.top_logprobs).any(axis=1, keepdims=True), np.nan, log_q)
