"""What sampling parameters make of a distribution: temperature, top-k, top-p and min-p, applied to `TopLogprobs`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.errors import LlmoptError, OptionError
from pytest_llmopt.core.logprobs import TopLogprobs

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import BoolArray, FloatArray
    from pytest_llmopt.core.sampling import SamplingParams

TAIL_TOLERANCE = 1e-4
"""The share of the tempered mass that may lie beyond the known tokens without its value being known."""

MASS_RESOLUTION = 1e-6
"""Rounding of a float32 cumulative sum of probabilities, by which engines find the boundary of top-p."""


class IncompleteEvidenceError(LlmoptError):
    """The known log-probabilities do not determine the warped distribution."""


@dataclass(frozen=True, eq=False)
class WarpedLogprobs:
    """The distribution that a sampler draws from, and which of its members rounding could have changed."""

    logprobs: TopLogprobs
    """Normalized after warping; minus infinity outside the support."""
    boundary: BoolArray
    """Known tokens, in or out, that another rounding could put on the other side of a filter: `[tokens, k]`."""
    violations: BoolArray
    """Where the token that was there lies outside the support, and is no tie at its boundary either: `[tokens]`."""

    def __getitem__(self, positions: BoolArray) -> WarpedLogprobs:
        """The same for some of the positions."""
        return WarpedLogprobs(self.logprobs[positions], self.boundary[positions], self.violations[positions])

    @property
    def support(self) -> BoolArray:
        """Which of the known tokens can be drawn: `[tokens, k]`."""
        return self.logprobs.top_logprobs > -np.inf

    @property
    def has_tail(self) -> bool:
        """Whether tokens beyond the known ones can be drawn as well."""
        return not self.logprobs.is_complete and bool((self.logprobs.tail_mass > MASS_RESOLUTION).any())


def warp(logprobs: TopLogprobs, sampling: SamplingParams, *, tie_margin: float = 0.0) -> WarpedLogprobs:
    """Log-probabilities after temperature, top-k, top-p and min-p, in that order, renormalized over the support.

    Order and edges are those of Transformers: top-k keeps every token that equals the k-th; top-p keeps a token while
    the mass of the more probable ones is below `top_p`; min-p keeps what has at least `min_p` times the probability of
    the best; the best token always stays. (vLLM applies min-p first, which differs only where top-p is on as well.)

    Tie rule: log-probabilities closer than `tie_margin`, in nats before the temperature, may stand in either order, and
    a cumulative mass may be off by what that margin allows. Tokens whose membership depends on it are `boundary`: no
    violations, and no evidence either. Without a margin nothing is excused, not even float32 rounding: pass the noise
    floor's. A position with a NaN in it is NaN throughout, and a violation.

    Raises:
        OptionError: the temperature is 0, where nothing is drawn.
        IncompleteEvidenceError: tokens beyond the known ones matter, since the temperature is not 1 or a filter keeps
            more than are known. Ask the engine for more of them, or sample with a smaller `top_k`.
    """
    if sampling.greedy:
        msg = "temperature 0 draws nothing; a distribution needs a temperature above 0"
        raise OptionError(msg)
    margin = tie_margin / sampling.temperature
    with np.errstate(divide="ignore", invalid="ignore"):  # minus infinity is at home here, and NaN is carried along
        step = _tempered(logprobs, sampling.temperature)
        if 0 < sampling.top_k < logprobs.vocab_size:
            step = _top_k(step, sampling.top_k, margin)
        if sampling.top_p < 1:
            step = _top_p(step, sampling.top_p, margin)
        if sampling.min_p > 0:
            step = _min_p(step, sampling.min_p, margin)
        step.require_known_tail("temperature")
        return _normalized(logprobs, step, sampling.temperature, margin)


@dataclass(frozen=True, eq=False)
class _Step:
    """A distribution between two filters, not normalized."""

    scores: FloatArray
    """Tempered log-probabilities of the known tokens, best first: `[tokens, k]`."""
    keep: BoolArray
    """Those in the support: `[tokens, k]`."""
    tail: FloatArray
    """Log mass of all unknown tokens in the support, on the scale of the scores: `[tokens]`."""
    tail_is_bound: bool
    """Whether `tail` is only the most that it could be."""
    boundary: BoolArray

    @property
    def log_total(self) -> FloatArray:
        known = np.where(self.keep, self.scores, -np.inf)
        return np.logaddexp(np.logaddexp.reduce(known, axis=1), self.tail)

    @property
    def mass(self) -> FloatArray:
        """Probability of each known token: `[tokens, k]`."""
        return np.where(self.keep, np.exp(self.scores - self.log_total[:, None]), 0.0)

    def require_known_tail(self, name: str) -> None:
        share = np.exp(self.tail - self.log_total)
        if self.tail_is_bound and bool((share > TAIL_TOLERANCE).any()):
            known = self.scores.shape[1]
            msg = f"{name}: up to {share.max():.2g} of the tempered mass may lie beyond the {known} known tokens"
            raise IncompleteEvidenceError(msg)

    def truncated(self, keep: BoolArray, boundary: BoolArray) -> _Step:
        nothing = np.full(len(keep), -np.inf)
        return replace(self, keep=keep, tail=nothing, tail_is_bound=False, boundary=self.boundary | boundary)


def _tempered(logprobs: TopLogprobs, temperature: float) -> _Step:
    scores = logprobs.top_logprobs.astype(np.float64) / temperature
    unknown = logprobs.vocab_size - logprobs.k
    tail = np.log(logprobs.tail_mass)
    if temperature < 1 and unknown:  # none of them is more probable than the least probable known token
        tail = tail + logprobs.top_logprobs[:, -1].astype(np.float64) * (1 / temperature - 1)
    elif temperature > 1 and unknown:  # the most that a mass spread over so many tokens can come to
        tail = tail / temperature + math.log(unknown) * (1 - 1 / temperature)
    keep = scores > -np.inf
    return _Step(scores, keep, tail, temperature != 1 and unknown > 0, boundary=np.zeros_like(keep))


def _top_k(step: _Step, top_k: int, margin: float) -> _Step:
    known = step.scores.shape[1]
    if top_k > known:
        msg = f"top_k={top_k} keeps more than the {known} known tokens"
        raise IncompleteEvidenceError(msg)
    keep = step.keep & (step.scores >= step.scores[:, top_k - 1 : top_k])
    # Where more than k are tied all of them stay, but another rounding would tell them apart and drop some.
    kept = keep & (np.arange(known) < top_k)
    return step.truncated(keep, _trading(step, kept, margin))


def _top_p(step: _Step, top_p: float, margin: float) -> _Step:
    step.require_known_tail(f"top_p={top_p}")
    mass = step.mass
    above = np.cumsum(mass, axis=1) - mass
    _require_closed(above[:, -1] + mass[:, -1] >= top_p, step, f"top_p={top_p}")
    keep = step.keep & (above < top_p)
    keep[:, 0] = step.keep[:, 0]
    slack = np.minimum(above, 1 - above) * math.expm1(margin) + (MASS_RESOLUTION if margin else 0.0)
    moved = step.keep & (np.abs(above - top_p) <= slack) & bool(margin)
    return step.truncated(keep, moved | _trading(step, keep, margin))


def _min_p(step: _Step, min_p: float, margin: float) -> _Step:
    lead = step.scores - step.scores[:, :1] - math.log(min_p)
    _require_closed(lead[:, -1] < -margin, step, f"min_p={min_p}")
    keep = step.keep & (lead >= 0)
    moved = step.keep & (np.abs(lead) <= margin) & bool(margin)
    return step.truncated(keep, moved)


def _require_closed(closed: BoolArray, step: _Step, name: str) -> None:
    open_rows = ~closed & (step.tail > -np.inf)
    if open_rows.any():
        msg = f"{name} keeps more than the {step.scores.shape[1]} known tokens at {int(open_rows.sum())} positions"
        raise IncompleteEvidenceError(msg)


def _trading(step: _Step, keep: BoolArray, margin: float) -> BoolArray:
    """Tokens on either side of a boundary that another rounding could put on the other: `[tokens, k]`."""
    if not margin:
        return np.zeros_like(keep)
    out = step.keep & ~keep
    last_in = np.where(keep, step.scores, np.inf).min(axis=1)
    unknown = np.where(step.tail > -np.inf, step.scores[:, -1], -np.inf)
    first_out = np.maximum(np.where(out, step.scores, -np.inf).max(axis=1), unknown)
    return (keep & (step.scores - first_out[:, None] <= margin)) | (out & (last_in[:, None] - step.scores <= margin))


def _normalized(logprobs: TopLogprobs, step: _Step, temperature: float, margin: float) -> WarpedLogprobs:
    total = step.log_total
    broken = np.isnan(step.scores).any(axis=1) | np.isnan(logprobs.token_logprobs)
    warped = np.where(step.keep, step.scores - total[:, None], -np.inf)
    warped[broken] = np.nan
    last_in = np.where(step.keep, step.scores, np.inf).min(axis=1)

    here = logprobs.top_ids == logprobs.token_ids[:, None]
    known = here.any(axis=1)
    score = logprobs.token_logprobs.astype(np.float64) / temperature
    drawable = np.where(known, (here & step.keep).any(axis=1), step.tail > -np.inf)
    tied = np.where(known, (here & step.boundary).any(axis=1), (last_in - score <= margin) & bool(margin))
    token_logprobs = np.where(drawable, score - total, -np.inf)
    token_logprobs[broken] = np.nan
    return WarpedLogprobs(
        TopLogprobs(logprobs.token_ids, token_logprobs, logprobs.top_ids, warped, logprobs.vocab_size),
        step.boundary,
        broken | ~(drawable | tied),
    )
