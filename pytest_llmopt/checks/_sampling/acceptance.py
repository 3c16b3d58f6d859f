"""How often sampled speculation accepts, seen in some tokens: lossless says nothing of how fast it is."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._sampling.sample import DrawnSample, Rates
from pytest_llmopt.core.claims import SampledAcceptance
from pytest_llmopt.core.prompt import Prompt
from pytest_llmopt.core.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

SAMPLED_TOKENS = 128
"""Enough for verification that loses half of the acceptance, where 11 nats are needed: a draft that shares 80 % of its
mass with the target shows it by 0.3 nats a proposal, one that shares 40 % by 0.1."""
ROUNDS = 16
"""Texts that end at once are not sampled for ever."""
FALSE_ALARM = 1e-4
NEW_TOKENS = 16


def sampled_acceptance(
    candidate: Side, reference: Side, draft: Side | None, contexts: Sequence[TokenIds], rates: Rates, seed: int
) -> SampledAcceptance | None:
    """What sampling at temperature 1 accepts of the draft model's proposals; None where no proposal was examined.

    Samples every context once a round, with fresh seeds, until the evidence decides or there are `SAMPLED_TOKENS`.

    Args:
        candidate: the side that speculates.
        reference: the side that scores what came out.
        draft: its draft model, opened apart from it.
        contexts: tokens to go on from.
        rates: what decides an alarm.
        seed: seed of the sampling.
    """
    if draft is None:
        return None
    sampling = SamplingParams(NEW_TOKENS, temperature=1.0)
    sample = DrawnSample(candidate, reference, draft, rates, sampling)
    prompts = [Prompt(f"{place:03d}", token_ids=context) for place, context in enumerate(contexts)]
    first = int(np.random.SeedSequence(seed).generate_state(1)[0])
    # An engine adds the place of a prompt to the seed.
    for own in itertools.islice(itertools.count(first, len(prompts)), ROUNDS):
        sample.add(prompts, own % 2**32)
        found = sample.evidence()
        if found.slow or len(sample) >= SAMPLED_TOKENS:
            break
    if found.acceptance is None:
        return None
    observed = found.acceptance.observed
    return SampledAcceptance(observed.n, observed.point, found.acceptance.expected, found.lost, found.tokens.threshold)
