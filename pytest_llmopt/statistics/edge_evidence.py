"""Evidence that tokens tied at a filter's edge come more or less often than they should, valid whenever one stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.statistics.acceptance_evidence import excess_acceptance
from pytest_llmopt.statistics.dropped_ties import dropped_ties
from pytest_llmopt.statistics.warping import IncompleteEvidenceError, warp

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from pytest_llmopt.core.logprobs import BoolArray, FloatArray, TopLogprobs
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.statistics.warping import WarpedLogprobs

OWN_MARGIN = 1e-5
"""How close to a filter's edge the sampler's own arithmetic may decide either way, in nats."""
SETS = ("", "late_", "outside_")
SLIP = 0.01
"""The share of the mass just outside its own edge that a sampler may draw: for edges that it computes in fewer bits."""


@dataclass(frozen=True, eq=False)
class EdgeEvidence:
    """How much was won by betting on the tokens that another rounding could put on the other side of a filter."""

    log_wealth: FloatArray
    """After each token, prompts one after the other; starts from 0 and moves at tied positions only: `[tokens]`."""
    positions: int
    """Where some token was tied."""
    observed: int
    """How often a tied token was drawn there."""
    expected: float
    """How often that should be, by the probabilities that the sampler reports."""
    outside: int
    """How often a tied token was drawn that its own probabilities leave out."""

    @property
    def peak(self) -> float:
        """The highest log-wealth so far, at least 0; NaN where it was ever undefined."""
        return float(np.maximum(self.log_wealth, 0.0).max(initial=0.0)) if len(self.log_wealth) else 0.0


def edge_evidence(
    targets: Sequence[WarpedLogprobs],
    acted_on: Sequence[TopLogprobs],
    sampling: SamplingParams,
    given: Sequence[Hashable] | None = None,
) -> EdgeEvidence:
    """Evidence that ties at the edge of top-k, top-p or min-p are not drawn with their own probability, in nats.

    The reference cannot say on which side of an edge a tied token was for the sampler, which rounded otherwise. The
    log-probabilities that the sampler acted on can: given them there is one law. So which tokens are tied is taken from
    the reference, how probable all of them are together from the sampler, and the number drawn is bet on: above and
    below its expectation, on the half of them with the higher ids, which is what a sort that keeps no more than k drops
    or favors, and on tied tokens outside the sampler's own support. Which of equal tokens a filter drops that keeps no
    more than k is the same whenever it is asked after the same text, so that is bet on as well, see `dropped_ties`.
    Each bet is a supermartingale, see `excess_acceptance`, and so is their mean: its log ever exceeds -log(alpha) with
    probability alpha at most.

    Takes the sampler's word for its log-probabilities; that they are the reference's up to rounding is for another test
    to say.

    Args:
        targets: the reference's warped log-probabilities with the margin that makes tokens `boundary`, by prompt.
        acted_on: what the sampler reports of the same positions, before warping.
        sampling: what it was asked for.
        given: what stands for the text before each prompt's tokens; equal for equal texts. None where all differ.
    """
    rows = [_Ties.of(target, own, sampling) for target, own in zip(targets, acted_on, strict=True)]
    tied = np.concatenate([item.here for item in rows])
    share, late_share, slip = (np.concatenate([getattr(item, f"{name}share") for item in rows]) for name in SETS)
    drawn, late, outside = (np.concatenate([getattr(item, f"{name}drawn") for item in rows]) for name in SETS)
    bets = [
        excess_acceptance(share, drawn),
        excess_acceptance(1 - share, ~drawn),
        excess_acceptance(late_share, late),
        excess_acceptance(1 - late_share, ~late),
        excess_acceptance(slip, outside),
    ]
    texts = range(len(rows)) if given is None else given
    paths = [np.concatenate([[0.0], bet])[np.cumsum(tied)] for bet in bets]
    paths.append(dropped_ties(targets, acted_on, sampling, texts))
    with np.errstate(invalid="ignore"):  # NaN is carried along
        path = np.logaddexp.reduce(paths, axis=0) - np.log(len(paths))
    return EdgeEvidence(path, int(tied.sum()), int(drawn.sum()), float(share.sum()), int(outside.sum()))


@dataclass(frozen=True, eq=False)
class _Ties:
    """The tied positions of one prompt: by set of tokens, how probable it is and whether one of it was drawn."""

    here: BoolArray
    """Where there are any: `[tokens]`."""
    share: FloatArray
    """The mass of all tied tokens by the sampler's own law: `[tied]`, as all others."""
    drawn: BoolArray
    late_share: FloatArray
    """Of those of them with the higher ids."""
    late_drawn: BoolArray
    outside_share: FloatArray
    """The most that may be drawn of those outside the sampler's own support."""
    outside_drawn: BoolArray

    @classmethod
    def of(cls, target: WarpedLogprobs, acted_on: TopLogprobs, sampling: SamplingParams) -> _Ties:
        here: BoolArray = np.any(target.boundary, axis=1, keepdims=False)
        try:
            own, loose = (warp(acted_on[here], sampling, tie_margin=margin) for margin in (0.0, OWN_MARGIN))
        except IncompleteEvidenceError:  # what the sampler reports does not determine its law: nothing is bet
            here = np.zeros_like(here)
            own = loose = target[here]
        ids, tied = target.logprobs.top_ids[here], target.boundary[here]
        known = own.logprobs.lookup(ids)
        p = np.where(np.isnan(known), 0.0, np.exp(known)) * tied
        p[np.isnan(own.logprobs.top_logprobs).any(axis=1)] = np.nan
        inside = p > 0
        by_id = np.argsort(np.argsort(np.where(inside, ids, np.inf), axis=1, kind="stable"), axis=1)
        # Which of two equal tokens top-p keeps is up to the order of a sort, and so no evidence.
        late = inside & (2 * by_id >= inside.sum(axis=1, keepdims=True)) & (sampling.top_p >= 1)
        there = tied & (ids == target.logprobs.token_ids[here][:, None])
        least = np.exp(np.where(own.support, own.logprobs.top_logprobs, 0.0).min(axis=1, initial=0.0))
        return cls(
            here,
            share=p.sum(axis=1),
            drawn=there.any(axis=1),
            late_share=(p * late).sum(axis=1),
            late_drawn=(there & late).any(axis=1),
            outside_share=SLIP * (tied & (p == 0)).sum(axis=1) * least,
            outside_drawn=there.any(axis=1) & loose.violations,
        )
