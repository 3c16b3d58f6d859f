"""What a metamorphic relation is: something that must not matter, changed, with the evidence before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pytest_llmopt.core.errors import LlmoptError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.core.weight_format import HasWeightFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_llmopt.core.answers import Generation
    from pytest_llmopt.core.inspection import Inspection
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds
    from pytest_llmopt.core.variant import Variant


class NotApplicableError(LlmoptError):
    """A relation that says nothing about this engine; its text is the reason."""


class RelationBrokenError(LlmoptError):
    """A relation that does not hold, as something else than evidence about tokens shows; its text says what."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Evidence about the same tokens twice, which should be equal."""

    change: str
    """What was different the second time, in words."""
    prompt_id: str
    continuation: Continuation
    """What the first evidence is about."""
    base: TopLogprobs
    changed: TopLogprobs

    def aligned(self) -> Pair:
        """The positions that both have at equal prefixes: up to and with the first token that differs.

        At that one the second side is asked about the token of the first. Where it does not know it, it gets the
        least log-probability that it does know, so that a divergence stays a lower bound.
        """
        length = min(len(self.base), len(self.changed))
        differs = np.flatnonzero(self.base.token_ids[:length] != self.changed.token_ids[:length])
        end = int(differs[0]) + 1 if differs.size else length
        base, changed = self.base[:end], self.changed[:end]
        if differs.size:
            last, asked = changed[slice(end - 1, end)], base.token_ids[slice(end - 1, end)]
            found = last.lookup(asked[:, None])[:, 0]
            unknown = np.isnan(found) & last.is_finite
            logprob = np.where(unknown, last.top_logprobs[:, -1], found)
            same = TopLogprobs(asked, logprob, last.top_ids, last.top_logprobs, last.vocab_size)
            changed = TopLogprobs.concatenate([changed[: end - 1], same])
        return Pair(self.change, self.prompt_id, self.continuation, base, changed)


@dataclass(frozen=True, eq=False)
class Case:
    """A prompt, the tokens that the engine gave it in its very first call, and what it thought of them."""

    prompt_id: str
    continuation: Continuation
    logprobs: TopLogprobs


@dataclass(frozen=True)
class Subject:
    """An engine with what relations need to question it."""

    engine: Side
    cases: tuple[Case, ...]
    text: TokenIds
    """A running text, long enough for relations about length; it may hold tokens that end a turn."""
    inspection: Inspection
    reopen: Callable[[Variant], Side] | None = None
    """Load a variant anew; who calls it closes the engine."""
    asked: bool = False
    """Whether the user named the relation, and so accepts what it costs."""
    reference: Side | None = None
    """Asked only whether the library itself means another function by some call; None where there is none."""

    def again(
        self, change: str, engine: Side | None = None, *, seed: int = 0, unused_cache: float | None = None
    ) -> list[Pair]:
        """The cases decoded once more, on this engine or another, against their first evidence.

        Another seed is another state of every global random generator, which a sound engine draws nothing from; and
        nothing but the tokens so far may matter in a cache.
        """
        given = [case.continuation for case in self.cases]
        generations = (engine or self.engine).force(given, seed=seed, unused_cache=unused_cache)
        return [
            Pair(change, case.prompt_id, case.continuation, case.logprobs, generation.logprobs)
            for case, generation in zip(self.cases, generations, strict=True)
        ]

    def part(self, start: int, context: int, tokens: int) -> Continuation:
        """A stretch of the text: so many tokens of context from `start`, then so many to decode."""
        middle = start + context
        return Continuation(self.text[start:middle], self.text[middle : middle + tokens])

    def require_batches(self) -> None:
        """Refuse an engine that decodes one prompt at a time.

        Raises:
            NotApplicableError: it does, or its architecture has no left padding.
        """
        if self.inspection.max_batch == 1:
            msg = "it decodes one prompt at a time"
            raise NotApplicableError(msg)
        self.require("left_padding")

    def require(self, ability: str) -> None:
        """Refuse an engine whose architecture cannot do something.

        Raises:
            NotApplicableError: it cannot; carries its reason.
        """
        if ability in self.inspection.lacks:
            raise NotApplicableError(self.inspection.lacks[ability])

    def require_own_scales(self) -> None:
        """Refuse an engine that rounds what it processes together by one scale by design: a token depends on the rest.

        Raises:
            NotApplicableError: one of its optimizations says so, by its weight format or by `depends_on_batch`.
        """
        for item in self.engine.variant.optimizations:
            form = item.options.weight_format if isinstance(item.options, HasWeightFormat) else None
            if form is not None and form.depends_on_batch:
                msg = f"{item.short_name} rounds the activations of a batch by one scale, so company matters by design"
                raise NotApplicableError(msg)
            if getattr(item.options, "depends_on_batch", False):
                msg = f"{item.short_name} rounds all that it stores together by one scale, so company matters by design"
                raise NotApplicableError(msg)


class Relation(Protocol):
    """A function that changes what must not matter, smallest change first; its docstring says what must hold."""

    def __call__(self, subject: Subject) -> Iterator[Pair]:
        """Pairs of evidence that should be equal.

        Raises:
            NotApplicableError: it says nothing about this engine.
        """
        ...


def pairs(
    change: str, names: Sequence[str], base: Sequence[Generation], changed: Sequence[Generation]
) -> Iterator[Pair]:
    """One pair for each of some decoded prompts."""
    for name, before, after in zip(names, base, changed, strict=True):
        yield Pair(change, name, before.continuation, before.logprobs, after.logprobs)
