"""What engines answer: decoded tokens with the log-probabilities that the decode path acted on, and memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pytest_llmopt.core.tokens import Continuation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.tokens import TokenIds


@dataclass(frozen=True)
class Timing:
    """When the tokens of a batch came, by the wall clock."""

    ttft_s: float
    """Time to first token: from the call to the end of the first step, prefill included."""
    decode_s: float
    """Time of all later steps."""
    decode_tokens: int
    """Tokens that each prompt of the batch got in those steps."""


@dataclass(frozen=True)
class DecodeStep:
    """One forward pass of the target model: it verifies the drafts and adds one token of its own."""

    emitted: int
    """Tokens that it added, at least one."""
    drafted: int = 0
    """Tokens proposed to it."""

    @property
    def accepted(self) -> int:
        """Proposals that were accepted: all that it emitted but the last, which is the target's own."""
        return min(self.emitted - 1, self.drafted)


@dataclass(frozen=True, eq=False)
class Generation:
    """One decoded prompt with the log-probabilities that the decode path acted on."""

    prompt_ids: TokenIds
    logprobs: TopLogprobs
    """One position per emitted token, before temperature and filters: `[tokens]`."""
    finish_reason: Literal["eos", "stop", "length"]
    """`stop` where a token of `stop_token_ids` ended it."""
    steps: tuple[DecodeStep, ...]
    """The target passes that this prompt took part in, in order."""
    timing: Timing
    """Of the batch that it was decoded in."""
    overrun: int = 0
    """Tokens emitted after the one that ended it, padding aside: there should be none."""

    @property
    def token_ids(self) -> TokenIds:
        """The emitted tokens, with the one that ended them where there was one."""
        return tuple(int(token) for token in self.logprobs.token_ids)

    @property
    def drafted_tokens(self) -> int:
        """Tokens that a draft proposed, accepted or not."""
        return sum(step.drafted for step in self.steps)

    @property
    def accepted_tokens(self) -> int:
        """Proposed tokens that were accepted."""
        return sum(step.accepted for step in self.steps)

    @property
    def continuation(self) -> Continuation:
        """What to teacher-force through the other side."""
        return Continuation(self.prompt_ids, self.token_ids)


@dataclass(frozen=True)
class Footprint:
    """Memory held by a loaded model, measured on its live tensors, in bytes."""

    weight_bytes: int
    parameters: int
    """Logical parameter count: what the weights stand for, not how they are packed."""
    bytes_by_dtype: Mapping[str, int] = field(default_factory=dict)
