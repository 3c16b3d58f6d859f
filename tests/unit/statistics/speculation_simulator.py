"""Speculative sampling over a tiny random language, exact or with a known bug: what the sampling tests are tried on."""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.statistics.warping import WarpedLogprobs, warp

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import BoolArray, FloatArray

CONTEXTS, VOCABULARY, BLOCK = 150, 32, 5
BUGS = ("accept_all", "residual_is_p", "ensemble", "temperature", "argmax_draft", "target_not_warped", "reused_noise")


@dataclass(frozen=True)
class Draws:
    """Tokens of one run with what the tests are given about them."""

    target: WarpedLogprobs
    draft: TopLogprobs
    block_index: np.ndarray[tuple[int], np.dtype[np.int64]]
    """Place in the draft block that each token was drawn at, known before it was: `[tokens]`."""
    accepted: BoolArray
    """Whether the token is an accepted proposal: `[tokens]`."""
    examined: BoolArray
    """Whether a proposal was examined at the token's position: `[tokens]`."""


class Speculation:
    """A language whose next token depends on the last one, a target and a draft that resemble each other."""

    def __init__(self, seed: int = 0, temperature: float = 1.0, noise: float = 1.5, width: float = 3.0) -> None:
        """Draw the tables of next-token distributions; `noise` is how far the draft's logits are off."""
        rng = np.random.default_rng(seed)
        logits = width * rng.standard_normal((CONTEXTS, VOCABULARY))
        draft_logits = logits + noise * rng.standard_normal(logits.shape)
        self.temperature = temperature
        self.log_raw = _log_softmax(logits)
        self.log_p = _log_softmax(logits / temperature)
        self.log_q = _log_softmax(draft_logits / temperature)
        self.successor = rng.integers(0, CONTEXTS, (CONTEXTS, VOCABULARY))

    def draws(self, tokens: int, seed: int, bug: str = "") -> Draws:
        """Decode that many tokens, correctly or with one of `BUGS`."""
        rng = random.Random(seed)  # noqa: S311 - one number at a time is what it is for
        log_target = {"target_not_warped": self.log_raw, "temperature": _log_softmax(self.log_p / 0.9)}.get(
            bug, self.log_p
        )
        p, q = np.exp(log_target), np.exp(self.log_q)
        verified = 0.8 * p + 0.2 * q if bug == "ensemble" else p
        residual = p if bug == "residual_is_p" else np.clip(p - q, 0.0, None)
        tables = [[list(accumulate(row)) for row in table] for table in (p, q, residual)]
        target_sums, draft_sums, residual_sums = tables
        ratio = (verified / q).tolist()
        best = q.argmax(axis=1).tolist()
        noise = np.random.default_rng(seed).exponential(size=VOCABULARY)
        successor = self.successor.tolist()

        context, contexts, ids, places, accepted, examined = 0, [], [], [], [], []
        place = 0
        while len(ids) < tokens:
            proposal = place < BLOCK
            if bug == "reused_noise":
                token, keep, proposal = int((p[context] / noise).argmax()), False, False
                noise = noise if rng.random() < 0.8 else np.array([rng.expovariate(1) for _ in noise])
            elif not proposal:
                token, keep = _pick(target_sums[context], rng), False
            else:
                token = best[context] if bug == "argmax_draft" else _pick(draft_sums[context], rng)
                keep = bug == "accept_all" or rng.random() <= ratio[context][token]
                token = token if keep else _pick(residual_sums[context], rng)
            contexts.append(context)
            ids.append(token)
            places.append(place)
            accepted.append(keep)
            examined.append(proposal)
            place = place + 1 if keep else 0
            context = successor[context][token]
        return self._draws(np.array(ids), np.array(contexts), np.array(places), np.array(accepted), np.array(examined))

    def _draws(
        self,
        ids: np.ndarray[tuple[int], np.dtype[np.int64]],
        contexts: np.ndarray[tuple[int], np.dtype[np.int64]],
        places: np.ndarray[tuple[int], np.dtype[np.int64]],
        accepted: BoolArray,
        examined: BoolArray,
    ) -> Draws:
        raw = TopLogprobs.from_logprobs(ids, self.log_raw[contexts])
        target = warp(raw, SamplingParams(temperature=self.temperature))
        return Draws(target, TopLogprobs.from_logprobs(ids, self.log_q[contexts]), places, accepted, examined)


def _log_softmax(logits: FloatArray) -> FloatArray:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def _pick(sums: list[float], rng: random.Random) -> int:
    return min(bisect_right(sums, rng.random() * sums[-1]), len(sums) - 1)
