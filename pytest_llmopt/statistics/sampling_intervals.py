"""Which random numbers give which token, where a sampler inverts the distribution function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.statistics.warping import WarpedLogprobs

ROUNDING = 1e-6
"""How far the ends of an interval may be off, since both sides round."""


@dataclass(frozen=True, eq=False)
class Intervals:
    """The random numbers that give each known token."""

    p: FloatArray
    """Probabilities of the known tokens: `[tokens, k]`."""
    low: FloatArray
    """Where the interval of each begins; it is as long as the token is probable: `[tokens, k]`."""
    drawn_low: FloatArray
    """Of the token that was drawn, 0 where it is not known: `[tokens]`."""
    drawn_high: FloatArray
    """1 where it is not known, which says nothing: `[tokens]`."""

    @classmethod
    def of(cls, target: WarpedLogprobs, *, by_id: bool) -> Self:
        """Those of one prompt's tokens, which lie one after the other by id or else by rank."""
        logprobs = target.logprobs
        p = np.exp(logprobs.top_logprobs.astype(np.float64))
        if by_id:
            # Of a whole vocabulary the ids are the places in that order.
            whole = logprobs.k == logprobs.vocab_size
            places = logprobs.top_ids if whole else np.argsort(np.argsort(logprobs.top_ids, axis=1), axis=1)
            ordered = np.empty_like(p)
            np.put_along_axis(ordered, places, p, axis=1)
            low = np.take_along_axis(np.cumsum(ordered, axis=1) - ordered, places, axis=1)
        else:
            low = np.cumsum(p, axis=1) - p
        here = logprobs.top_ids == logprobs.token_ids[:, None]
        known, rows, place = here.any(axis=1), np.arange(len(p)), here.argmax(axis=1)
        known &= p[rows, place] > 0
        start = low[rows, place]
        return cls(p, low, np.where(known, start, 0.0), np.where(known, start + p[rows, place], 1.0))

    def within(self, low: FloatArray, high: FloatArray) -> FloatArray:
        """Probability of each known token if the number lies evenly in an interval: `[tokens, k]`."""
        start, end = low[:, None] - ROUNDING, high[:, None] + ROUNDING
        shared = np.minimum(self.low + self.p, end) - np.maximum(self.low, start)
        return np.maximum(shared, 0.0) / (end - start)

    def on_grid(self, bits: int) -> FloatArray:
        """Probability of each known token if numbers have so many bits: `[tokens, k]`."""
        steps = 2**bits
        return (np.ceil((self.low + self.p) * steps) - np.ceil(self.low * steps)) / steps
