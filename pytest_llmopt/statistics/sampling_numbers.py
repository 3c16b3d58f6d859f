"""Functions of the token drawn that see which random number it was drawn by: one that is used again, or a coarse one.

A sampler that inverts the distribution function takes the token whose interval holds its random number, tokens being in
the order of their ids or, behind a filter that sorts, of their probability. So a token tells an interval that its
number was in. A bug says what the next number is, or which ones there are; what it makes of the law is put against the
law itself, as a clamped log-ratio. All of it is known before the token is drawn, so that a wrong guess of the sampler's
way costs power and not validity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.statistics.sampling_statistics import LOG_RATIO_CLAMP, WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.statistics.sampling_intervals import Intervals
    from pytest_llmopt.statistics.sampling_statistics import Outcomes

COARSE_BITS = (8, 11)
"""Those of a random number in bfloat16 and in float16."""


def _ratio(outcomes: Outcomes, intervals: Intervals, q: FloatArray) -> FloatArray:
    """Log of what a bug makes of the law over the law, clamped; the bucket keeps the tail as it is."""
    tail = (outcomes.target.logprobs.tail_mass if outcomes.target.has_tail else np.zeros(len(q)))[:, None]
    told_apart = slice(None), slice(WIDTH)
    pooled = slice(None), slice(WIDTH, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p, log_q = (
            np.log(np.hstack([side[told_apart], side[pooled].sum(axis=1, keepdims=True) + tail]))
            for side in (intervals.p, q)
        )
        ratio = np.where(np.isneginf(log_p), 0.0, log_q - log_p)
    return np.clip(ratio, -LOG_RATIO_CLAMP, LOG_RATIO_CLAMP)


def _number_before(outcomes: Outcomes, *, by_id: bool) -> FloatArray:
    """The number is that of the token before."""
    intervals = outcomes.intervals(by_id=by_id)
    low = np.concatenate([[0.0], intervals.drawn_low[:-1]])
    high = np.concatenate([[1.0], intervals.drawn_high[:-1]])
    q = intervals.within(low, high)
    q[:1] = intervals.p[:1]
    return _ratio(outcomes, intervals, q)


def _number_beside(outcomes: Outcomes, *, by_id: bool) -> FloatArray:
    """The number is that of the text beside at the same step; of nothing where there is none."""
    if outcomes.beside is None:
        return np.zeros_like(outcomes.log_p)
    intervals, others = (side.intervals(by_id=by_id) for side in (outcomes, outcomes.beside))
    shared = min(len(intervals.p), len(others.p))
    q = intervals.p.copy()
    low, high = np.zeros(len(q)), np.ones(len(q))
    low[:shared], high[:shared] = others.drawn_low[:shared], others.drawn_high[:shared]
    q[:shared] = intervals.within(low, high)[:shared]
    return _ratio(outcomes, intervals, q)


def number_before(outcomes: Outcomes) -> FloatArray:
    """By the order of ids, the number of the token before: sees one that is used in two steps."""
    return _number_before(outcomes, by_id=True)


def number_before_sorted(outcomes: Outcomes) -> FloatArray:
    """The same by the order of probability."""
    return _number_before(outcomes, by_id=False)


def number_beside(outcomes: Outcomes) -> FloatArray:
    """By the order of ids, the number of the row beside at the same step: sees one that serves a whole batch."""
    return _number_beside(outcomes, by_id=True)


def number_beside_sorted(outcomes: Outcomes) -> FloatArray:
    """The same by the order of probability."""
    return _number_beside(outcomes, by_id=False)


def drawn_beside(outcomes: Outcomes) -> FloatArray:
    """Whether the row beside drew it at the same step: sees random numbers per token id that serve a whole batch."""
    values = np.zeros_like(outcomes.log_p)
    if outcomes.beside is not None:
        there = outcomes.beside.target.logprobs.token_ids
        shared = min(len(there), len(values))
        ids = outcomes.target.logprobs.top_ids[:shared, : values.shape[1] - 1]
        values[:shared, :-1] = ids == there[:shared, None]
    return values


def coarse_number(outcomes: Outcomes) -> FloatArray:
    """By the order of ids, numbers of few bits: sees that rare tokens come never, or too often."""
    return _coarse(outcomes, COARSE_BITS[0], by_id=True)


def coarse_number_sorted(outcomes: Outcomes) -> FloatArray:
    """The same by the order of probability."""
    return _coarse(outcomes, COARSE_BITS[0], by_id=False)


def coarse_half_number(outcomes: Outcomes) -> FloatArray:
    """By the order of ids, numbers of as many bits as float16 has."""
    return _coarse(outcomes, COARSE_BITS[1], by_id=True)


def _coarse(outcomes: Outcomes, bits: int, *, by_id: bool) -> FloatArray:
    intervals = outcomes.intervals(by_id=by_id)
    return _ratio(outcomes, intervals, intervals.on_grid(bits))


NUMBER_STATISTICS: Mapping[str, Callable[[Outcomes], FloatArray]] = {
    "number_before": number_before,
    "number_before_sorted": number_before_sorted,
    "number_beside": number_beside,
    "number_beside_sorted": number_beside_sorted,
    "drawn_beside": drawn_beside,
    "coarse_number": coarse_number,
    "coarse_number_sorted": coarse_number_sorted,
    "coarse_half_number": coarse_half_number,
}
"""Those that need the target, and the text drawn beside it where there is one."""
