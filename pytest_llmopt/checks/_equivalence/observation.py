"""What the candidate did at each position beside what the reference thinks of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.statistics.agreement import regret
from pytest_llmopt.statistics.divergence import kl_divergence, logprob_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.answers import Generation
    from pytest_llmopt.core.logprobs import FloatArray, TopLogprobs

GREEDY = "greedy"
"""The way in on which the candidate chooses its tokens itself."""


@dataclass(frozen=True, eq=False)
class Observation:
    """One decoded or forced prompt, scored by the reference."""

    prompt_id: str
    generation: Generation
    reference: TopLogprobs
    path: str
    """How its tokens came to the candidate: `greedy`, its own choices one at a time; or given ones: `forced` one at a
    time, `chunked` many at a time over the cache, `forward` all at once without one."""
    kl: FloatArray
    drift: FloatArray
    """Candidate's minus reference's log-probability of the token, in nats: `[tokens]`."""
    regret: FloatArray
    """What the reference's best token is ahead of the emitted one, in nats; zeros where tokens were given."""

    @classmethod
    def of(
        cls,
        prompt_id: str,
        generation: Generation,
        reference: TopLogprobs,
        *,
        path: str,
        choice: TopLogprobs | None = None,
    ) -> Observation:
        """Compare both sides at every position.

        Args:
            prompt_id: the prompt, and the way it was decoded.
            generation: what the candidate emitted.
            reference: what the reference thinks of it.
            path: how the tokens came to the candidate.
            choice: what the reference's own choice would rest on, where something stands between it and the model.
        """
        own = generation.logprobs
        loss = regret(reference if choice is None else choice) if path == GREEDY else np.zeros(len(own))
        kl, drift = kl_divergence(reference, own), logprob_difference(reference, own)
        return cls(prompt_id, generation, reference, path, kl, drift, loss)

    @property
    def forced(self) -> bool:
        """Whether the tokens were given, so that what the candidate would have chosen is no evidence."""
        return self.path != GREEDY

    @property
    def start(self) -> int:
        """The position of its first token."""
        return len(self.generation.prompt_ids)

    def classify(self, tie_margin: float, *, drifts: bool) -> str:
        """NONFINITE, DIVERGED, DRIFT, TIE or EXACT: the first that applies."""
        if not self.generation.logprobs.is_finite.all():
            return "NONFINITE"
        if self.regret.max() > tie_margin:
            return "DIVERGED"
        if drifts:
            return "DRIFT"
        return "TIE" if self.regret.max() > 0 else "EXACT"


def classes(observed: Sequence[Observation], tie_margin: float, drifts: Sequence[bool]) -> str:
    """How many prompts are of each class, the worst class first; of the forced ones only those that are not well.

    Args:
        observed: what was decoded.
        tie_margin: the most regret of a tie, in nats.
        drifts: whether a prompt is systematically above the noise floor although no token changed.
    """
    found = [
        (item.forced, item.classify(tie_margin, drifts=drift)) for item, drift in zip(observed, drifts, strict=True)
    ]
    greedy, forced = (Counter(name for is_forced, name in found if is_forced is wanted) for wanted in (False, True))
    order = ("NONFINITE", "DIVERGED", "DRIFT", "TIE", "EXACT")
    text = ", ".join(f"{greedy[name]} {name}" for name in order if greedy[name])
    # Tokens that were given are no choice: EXACT would say nothing of them.
    unwell = [f"{forced[name]} {name}" for name in ("NONFINITE", "DRIFT") if forced[name]]
    return f"{text}, of {forced.total()} forced {', '.join(unwell)}" if unwell else text
