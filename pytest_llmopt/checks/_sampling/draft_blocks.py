"""Where each token stands in the blocks of speculative decoding, from the steps that an engine reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.answers import DecodeStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.answers import Generation
    from pytest_llmopt.core.logprobs import BoolArray, IntArray

PLACES = 5
"""Places of a block that are told apart; later ones count with the last of them."""


@dataclass(frozen=True, eq=False)
class DraftBlocks:
    """What is known of each token of one prompt before it is drawn, but for `accepted`.

    A place is known beforehand: that a token is the third of its block says that the two before it were accepted,
    which is the past. So is whether a proposal waits for it: drafting stops for what was drafted before (a draft that
    ended the text, or one that the draft was not confident of), and that is the text before it once it is accepted.
    That a token is the *replacement of a rejected proposal* is not known beforehand. It is decided by the proposal and
    by chance; given it, the token of a lossless decoder follows the residual and not the target. Betting on such tokens
    apart would call every lossless decoder wrong, so there is no stratum of them. The token *after* one is fair.
    """

    place: IntArray
    """How many tokens its target pass had emitted before it: `[tokens]`."""
    drafted: IntArray
    """How many proposals that pass examined at most: `[tokens]`."""
    after_rejection: BoolArray
    """Whether the pass before it ended with a rejected proposal: `[tokens]`."""
    accepted: BoolArray
    """Whether it is an accepted proposal; an end-of-sequence token never counts, as engines cut there: `[tokens]`."""
    examined: BoolArray
    """Whether a proposal waited for it whose fate is known: not so at the last token that was asked for: `[tokens]`."""
    first_pass: BoolArray
    """Whether the first target pass of the text emitted it: `[tokens]`."""

    @classmethod
    def of(cls, generation: Generation, eos_token_ids: frozenset[int], max_new_tokens: int) -> DraftBlocks:
        """The blocks of one decoded prompt."""
        tokens = generation.logprobs.token_ids
        steps = generation.steps
        if sum(step.emitted for step in steps) < len(tokens):  # an engine that does not know its passes
            steps = (DecodeStep(1),) * len(tokens)
        emitted = np.array([step.emitted for step in steps], int)
        rejecting = np.array([step.emitted <= step.drafted for step in steps], bool)
        place = np.concatenate([np.arange(count) for count in emitted])[: len(tokens)]
        drafted = np.repeat([step.drafted for step in steps], emitted)[: len(tokens)]
        last = place + 1 == np.repeat(emitted, emitted)[: len(tokens)]
        after = np.repeat(np.concatenate([[False], rejecting[:-1]]), emitted)[: len(tokens)]
        ended = np.isin(tokens, sorted(eos_token_ids))
        proposed = place < drafted
        return cls(
            place,
            drafted,
            after & (place == 0),
            proposed & ~last & ~ended,
            proposed & (np.arange(len(tokens)) < max_new_tokens - 1),
            np.arange(len(tokens)) < emitted[0],
        )

    @property
    def proposed(self) -> BoolArray:
        """Whether a proposal waited for the token: `[tokens]`."""
        return self.place < self.drafted

    @property
    def strata(self) -> Mapping[str, BoolArray]:
        """The strata to bet on apart, by name; the same names for every prompt."""
        places = {f"proposal {place + 1}": self.place == place for place in range(PLACES - 1)}
        places[f"proposal {PLACES} or later"] = self.place >= PLACES - 1
        return {
            "proposals": self.proposed,
            **{name: self.proposed & here for name, here in places.items()},
            "after a block that was accepted whole": (self.drafted > 0) & (self.place >= self.drafted),
            "after a rejection": self.after_rejection,
            "first target pass": self.first_pass,
        }
