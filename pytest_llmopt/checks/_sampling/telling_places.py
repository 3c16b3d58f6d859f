"""Where in the prompts the settings of a sampler make the most difference, to sample there again and again."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from pytest_llmopt.core.prompt import Prompt
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.statistics.warping import IncompleteEvidenceError, warp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmopt.core.logprobs import FloatArray, TopLogprobs
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.core.side import Side

SHARE = 0.25
"""Of all tokens that are sampled at such places."""
READ_TOKENS = 32
"""The end of each prompt that is looked through: contexts are read twice for a short text, so they are short too."""
LEAST_CONTEXT = 8
PER_PROMPT = 2
AFTER_FILTER, AFTER_TEMPERATURE = 2, 8
"""Tokens of each short text: a filter's edge matters at the place itself, and a draft is asked from two tokens on; the
first block of a text matters as a whole where the temperature alone is applied."""
EDGES, PLACES = 8, 32
"""How many places: few where one and the same edge is seen more clearly the more often it is drawn at."""


@dataclass(frozen=True)
class Telling:
    """Contexts to sample short texts after; none where the settings change nothing."""

    contexts: tuple[Prompt, ...]
    max_new_tokens: int

    @classmethod
    def of(cls, reference: Side, prompts: PromptSet, sampling: SamplingParams) -> Self:
        """The places of the prompts where the law after warping is most unlike that of a sampler with a fault in it.

        Args:
            reference: reads the prompts.
            prompts: where to look.
            sampling: the settings.
        """
        filtered = sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0
        tokens, count = (AFTER_FILTER, EDGES) if filtered else (AFTER_TEMPERATURE, PLACES)
        length = min(tokens, sampling.max_new_tokens)
        if not filtered and sampling.temperature == 1:
            return cls((), length)
        read = [(prompt.id, prompt.encode(reference)[-READ_TOKENS:]) for prompt in prompts]
        read = [(name, ids) for name, ids in read if len(ids) > LEAST_CONTEXT]
        if not read:
            return cls((), length)
        scored = reference.score([Continuation(ids[:LEAST_CONTEXT], ids[LEAST_CONTEXT:]) for _, ids in read])
        found = []
        for (name, ids), logprobs in zip(read, scored, strict=True):
            worth = _worth(logprobs, sampling)
            for place in np.argsort(-worth, kind="stable")[:PER_PROMPT]:
                if worth[place] > 0:
                    end = LEAST_CONTEXT + int(place)
                    found.append((float(worth[place]), Prompt(f"{name}, {end} tokens of its end", token_ids=ids[:end])))
        found.sort(key=lambda item: -item[0])
        return cls(tuple(prompt for _, prompt in found[:count]), length)

    def __len__(self) -> int:
        """How many contexts there are."""
        return len(self.contexts)

    def due(self, long_tokens: int, short_tokens: int) -> Iterator[Sequence[Prompt]]:
        """The calls to make for the share to be kept: all contexts, as often as it takes.

        Args:
            long_tokens: sampled elsewhere.
            short_tokens: sampled here before.
        """
        missing = long_tokens * SHARE / (1 - SHARE) - short_tokens
        calls = round(missing / (len(self) * self.max_new_tokens)) if self.contexts else 0
        return itertools.repeat(self.contexts, max(calls, 0))


def _worth(logprobs: TopLogprobs, sampling: SamplingParams) -> FloatArray:
    """How much a fault would show at each place: `[tokens]`; nothing where it is not finite.

    With a filter, the mass of the tokens at its edge, above all where more tie there than it has room for; without
    one, the KL divergence of the tempered law from the bare one, in nats.
    """
    try:
        law = warp(logprobs, sampling)
    except IncompleteEvidenceError:
        return np.zeros(len(logprobs))
    support, log_p = law.support, law.logprobs.top_logprobs.astype(np.float64)
    p = np.where(support, np.exp(log_p), 0.0)
    if not (sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0):
        bare = logprobs.top_logprobs.astype(np.float64)
        return np.nan_to_num(np.where(support, p * (np.where(support, log_p, 0.0) - bare), 0.0).sum(axis=1))
    kept = support.sum(axis=1)
    last = np.where(support, log_p, np.inf).min(axis=1, keepdims=True)
    edge = np.where(support & (log_p == last), p, 0.0).sum(axis=1)
    crowded = (kept > sampling.top_k) if sampling.top_k > 0 else np.zeros(len(p), bool)
    return np.nan_to_num(np.where(kept > 1, edge + crowded, 0.0))
