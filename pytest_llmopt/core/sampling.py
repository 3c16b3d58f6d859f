"""How the next token is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.values import Count, CountOrNone, Range, Seed, fit_fields

COLDEST = 1e-3
"""The lowest temperature above 0: below it logits are divided beyond what float32 holds."""


@dataclass(frozen=True)
class SamplingParams:
    """How to choose the next token. Temperature 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 switch a filter off."""

    max_new_tokens: Count = 64
    temperature: Annotated[float, Range(0, 100)] = 0.0
    top_k: CountOrNone = 0
    top_p: Annotated[float, Range(above=0, at_most=1)] = 1.0
    min_p: Annotated[float, Range(0, below=1)] = 0.0
    seed: Seed = 0
    ignore_eos: bool = False
    """Go on to `max_new_tokens` whatever comes, as timing needs."""
    stop_token_ids: tuple[CountOrNone, ...] = ()
    """Tokens that end a generation as the end-of-sequence token does, and are emitted as it is."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        fit_fields(self)
        if 0 < self.temperature < COLDEST:
            msg = f"temperature={self.temperature} divides logits beyond all bounds; give 0 for greedy, or {COLDEST} up"
            raise OptionError(msg)
        if self.ignore_eos and self.stop_token_ids:
            msg = f"ignore_eos=True goes on whatever comes, stop_token_ids={self.stop_token_ids} do not: give one"
            raise OptionError(msg)

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0
