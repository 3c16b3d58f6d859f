"""What tokens were drawn from, if not from the target: the known faults, each as a law with a likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.logprobs import BoolArray, FloatArray, TopLogprobs

SLIP = 0.01
"""Share of the target that is mixed into every law, so that one token does not rule it out."""
WEIGHTS = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Shares of the draft in what was drawn."""
FACTORS = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.18, 1.25, 1.43, 1.67, 2.0, 2.5)
"""The wrong temperature over the right one."""


@dataclass(frozen=True, eq=False)
class Law:
    """A fault in words, and how much better it explains the tokens than lossless sampling does."""

    cause: str
    gains: FloatArray
    """Log-likelihood ratio to the target of each token, in nats: `[tokens]`."""

    @property
    def gain(self) -> float:
        """Of all tokens together, in nats."""
        return float(self.gains.sum())


def likeliest_laws(
    target: TopLogprobs, draft: TopLogprobs | None, proposed: BoolArray, temperature: float
) -> list[Law]:
    """The known faults, the one that explains the tokens best first.

    Only a diagnosis: the laws are compared after the fact, and none needs to be the truth.

    Args:
        target: the target's warped log-probabilities of the tokens drawn.
        draft: the draft's, where there is one.
        proposed: where a proposal of the draft was examined: `[tokens]`.
        temperature: the temperature that was asked for.
    """
    p_drawn = np.exp(target.token_logprobs.astype(np.float64))
    laws = dict(_of_temperature(target, temperature))
    if draft is not None:
        laws |= dict(_of_draft(target, draft, p_drawn, proposed))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = {cause: np.where(p_drawn > 0, law / p_drawn, 1.0) for cause, law in laws.items()}
    found = [Law(cause, np.log(SLIP + (1 - SLIP) * np.maximum(value, 0.0))) for cause, value in ratio.items()]
    return sorted(found, key=lambda law: -law.gain)


def _of_temperature(target: TopLogprobs, temperature: float) -> Iterator[tuple[str, FloatArray]]:
    for factor in FACTORS:
        scores = target.top_logprobs.astype(np.float64) / factor
        total = np.logaddexp.reduce(scores, axis=1)
        wrong = f"tokens follow a temperature of about {temperature * factor:.2g} instead of {temperature:g}"
        yield wrong, np.exp(target.token_logprobs.astype(np.float64) / factor - total)
    greedy = "the most probable token is taken: greedy choice instead of sampling"
    yield greedy, (target.top_ids[:, 0] == target.token_ids).astype(np.float64)


def _of_draft(
    target: TopLogprobs, draft: TopLogprobs, p_drawn: FloatArray, proposed: BoolArray
) -> Iterator[tuple[str, FloatArray]]:
    q_drawn = np.exp(draft.token_logprobs.astype(np.float64))
    p = np.exp(target.top_logprobs.astype(np.float64))
    q = np.nan_to_num(np.exp(draft.lookup(target.top_ids)))
    overlap = np.minimum(p, q).sum(axis=1)
    for weight in WEIGHTS:
        share = "all" if weight == 1 else f"about {weight:.0%}"
        cause = (
            f"accepted too often: tokens lean towards the draft, as if {share} of the proposals were never verified "
            "(acceptance rule, ensemble weight)"
        )
        yield cause, np.where(proposed, weight * q_drawn + (1 - weight) * p_drawn, p_drawn)
    yield (
        "a rejected proposal is replaced by a draw from the target instead of the residual (p - q)+",
        np.where(proposed, np.minimum(p_drawn, q_drawn) + (1 - overlap) * p_drawn, p_drawn),
    )
    best = draft.top_ids[:, :1]
    here = target.top_ids == best
    kept = np.minimum(1.0, np.where(here, p, 0.0).sum(axis=1) / np.exp(draft.top_logprobs[:, 0].astype(np.float64)))
    residual = np.maximum(p_drawn - q_drawn, 0.0) / np.maximum(1 - overlap, 1e-9)
    greedy = kept * (best[:, 0] == target.token_ids) + (1 - kept) * residual
    yield (
        "the draft proposes its most probable token but is verified as if it had sampled",
        np.where(proposed, greedy, p_drawn),
    )
