"""What was seen of a candidate at work, and what an optimization claims of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pytest_llmopt.core.inspection import Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.answers import Generation
    from pytest_llmopt.core.inspection import Inspection
    from pytest_llmopt.core.logprobs import FloatArray, TopLogprobs
    from pytest_llmopt.core.verdict import Metric


@dataclass(frozen=True)
class SampledAcceptance:
    """How often sampled speculation accepted what its draft model proposed, against what the two share."""

    proposals: int
    """Those that verification reached."""
    observed: float
    """The share of them that was accepted."""
    expected: float
    """The share that lossless verification accepts: the mean of the sum over tokens of min(p, q)."""
    lost: float
    """Evidence that fewer are accepted than that, in nats."""
    limit: float
    """What a sound verification ever exceeds with the stated probability of a false alarm, in nats."""


@dataclass(frozen=True, eq=False)
class Use:
    """Everything that was seen of a candidate at work, for its optimizations to make claims about."""

    inspection: Inspection
    reference: Inspection
    generations: Sequence[Generation]
    """Of the first of several equal calls."""
    compilations: int
    """Graphs compiled for it so far."""
    recompilations: int
    """Of these, in equal calls after the first."""
    divergence: FloatArray
    """KL(reference || candidate) at every emitted token, in nats."""
    dtype: str
    work: Work = field(default_factory=Work)
    """Of the calls after the first."""
    draft: Sequence[TopLogprobs] | None = None
    """What the draft model, opened apart from the candidate, thinks of every emitted token, one element per generation;
    None where there is no draft model or nothing can open it."""
    tie_margin: float = 0.0
    """By how many nats rounding may move one token's log-probability against another's."""
    sampled: SampledAcceptance | None = None
    """Of some tokens sampled at temperature 1; None where there is no draft model or nothing can open it."""

    @property
    def drafted_tokens(self) -> int:
        """Tokens that a draft proposed."""
        return sum(item.drafted_tokens for item in self.generations)

    @property
    def accepted_tokens(self) -> int:
        """Proposed tokens that were accepted."""
        return sum(item.accepted_tokens for item in self.generations)


@dataclass(frozen=True)
class Claim:
    """One thing that must be true of the loaded engine if an optimization is in effect."""

    name: str
    """Of the metric, such as `drafted_tokens`."""
    metric: Metric
    """With the tolerance that the claim sets."""
    otherwise: str
    """What is the matter when it is not true."""


@runtime_checkable
class Claims(Protocol):
    """An optimization that says how one can see that it is in effect."""

    def claims(self, use: Use) -> Sequence[Claim]:
        """What must be true of the candidate, as seen at work."""
        ...
