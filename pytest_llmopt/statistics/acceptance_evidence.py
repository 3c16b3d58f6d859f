"""Evidence that drafts are accepted more often than lossless verification could, valid whenever one stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import BoolArray, FloatArray

THETAS = np.array([[0.1], [0.2], [0.4], [0.8], [1.6], [3.2]])


def excess_acceptance(bound: FloatArray, accepted: BoolArray, *, floor_kl: float = 0.0) -> FloatArray:
    """Log-wealth after each examined proposal of betting that it is accepted, in nats: `[proposals]`.

    Let x be the token emitted, of law p, and d the proposal, of law q. Acceptance means x = d, and no coupling of the
    two makes that more probable than the sum over tokens of min(p, q) (Lindvall 2002, "Lectures on the coupling
    method"). With a `bound` that is at least that sum, the product of exp(theta a) / (1 - bound + bound exp(theta)), a
    being 1 where accepted, is a supermartingale for theta above 0, and so is its mean over a grid: it ever exceeds
    1 / alpha with probability at most alpha (Ville's inequality). Only excess is bet on; to bet on too few, count the
    rejections: 1 - the least acceptance, and what was not accepted. NaN in the bound gives NaN from there on.

    Args:
        bound: the most that each proposal may be accepted, given the past.
        accepted: whether it was.
        floor_kl: mean KL divergence, in nats per token and for target and draft alike, between the distributions that
            the bound was computed of and those that the engine acted on. Both move the sum by their total variation,
            of mean square at most 2 `floor_kl` together (Pinsker); what that could win is subtracted.

    Raises:
        ValueError: the two arrays differ in length.
    """
    limit, outcome = np.minimum(np.asarray(bound, np.float64), 1.0), np.asarray(accepted, np.float64)
    if limit.shape != outcome.shape:
        msg = f"{limit.shape} bounds do not fit {outcome.shape} outcomes"
        raise ValueError(msg)
    mean = 1 + limit * np.expm1(THETAS)
    won = np.cumsum(THETAS * outcome - np.log(mean), axis=1)
    if floor_kl:
        slope = np.cumsum((np.expm1(THETAS) / mean) ** 2, axis=1)
        won -= np.sqrt(2 * floor_kl * np.arange(1, outcome.size + 1) * slope)
    with np.errstate(invalid="ignore"):
        return np.logaddexp.reduce(won, axis=0) - np.log(len(THETAS))
