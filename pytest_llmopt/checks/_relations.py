"""What relations found: pairs of evidence, judged at equal prefixes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_llmopt.checks._places import Place
from pytest_llmopt.core.engine import Continuation, SamplingParams
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.relation import Case, NotApplicableError, Subject
from pytest_llmopt.statistics.divergence import kl_divergence, logprob_difference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from pytest_llmopt.core.engine import Engine, TokenIds
    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.core.relation import Pair, Relation

CONTEXT_TOKENS = 32
"""The end of each prompt that is used: what matters here is state and shape, not content."""
TEXT_TOKENS = 160


@dataclass(frozen=True, eq=False)
class Judged:
    """A pair, with what its two sides differ by."""

    pair: Pair
    """Aligned: at equal prefixes."""
    kl: FloatArray
    """KL(base || changed) in nats: `[tokens]`."""
    drift: FloatArray
    """Difference of the log-probabilities of the token, changed - base, in nats: `[tokens]`."""
    nonfinite: int
    """Positions without a usable distribution on either side."""

    @classmethod
    def of(cls, pair: Pair) -> Judged:
        """Compare the two sides of a pair."""
        aligned = pair.aligned()
        base, changed = aligned.base, aligned.changed
        usable = base.is_finite & changed.is_finite
        return cls(aligned, kl_divergence(base, changed), logprob_difference(base, changed), int((~usable).sum()))

    @property
    def worst_kl(self) -> float:
        """The largest divergence, NaN where there is one."""
        return float(np.max(self.kl))

    def breaks(self, worst_kl: float) -> bool:
        """Whether it differs by more than a limit; NaN does."""
        return not self.worst_kl <= worst_kl

    @property
    def place(self) -> Place:
        """Where it differs most."""
        index = int(np.argmax(np.where(np.isnan(self.kl), np.inf, self.kl)))
        return Place(self.pair.prompt_id, self.pair.continuation, index)


@dataclass(frozen=True, eq=False)
class Outcome:
    """One relation: what it found, or why it says nothing."""

    name: str
    promise: str
    """What must hold, in a sentence."""
    pairs: tuple[Judged, ...] = ()
    not_applicable: str = ""

    @property
    def kl(self) -> FloatArray:
        """The divergences of all pairs."""
        return np.concatenate([item.kl for item in self.pairs])

    def first_broken(self, worst_kl: float) -> Judged | None:
        """The pair with the smallest change that makes a difference: relations give the smallest first."""
        return next((item for item in self.pairs if item.breaks(worst_kl)), None)


def run(name: str, relation: Relation, subject: Subject) -> Outcome:
    """What a relation finds. An error that is no refusal comes with the name of the relation."""
    promise = (relation.__doc__ or name).strip().partition("\n")[0]
    try:
        found = tuple(Judged.of(pair) for pair in relation(subject))
    except NotApplicableError as error:
        return Outcome(name, promise, not_applicable=str(error))
    except Exception as error:
        error.add_note(f"while relation {name!r} of assert_invariant was tried: {promise}")
        raise
    return Outcome(name, promise, found)


def subject_of(candidate: Engine, prompts: object, *, num_prompts: int, max_new_tokens: int, asked: bool) -> Subject:
    """An engine with a few prompts that it has decoded once: its very first call where nothing else has used it.

    Raises:
        OptionError: it has room for no prompt with its output.
    """
    # The engine itself: a side hides what only some engines can do. Its time is taken by `timed`.
    engine: Engine = getattr(candidate, "engine", candidate)
    room = (engine.max_length or TEXT_TOKENS) - max_new_tokens
    if room < 1:
        msg = f"max_new_tokens={max_new_tokens} leaves no room for a prompt: there is room for {engine.max_length}"
        raise OptionError(msg)
    everything = PromptSet.of(prompts)
    chosen = everything.take(num_prompts)
    contexts = [prompt.encode(engine)[-min(CONTEXT_TOKENS, room) :] for prompt in chosen]
    sampling = SamplingParams(max_new_tokens=max_new_tokens, ignore_eos=True)
    cases = tuple(
        Case(prompt.id, Continuation(tokens, item.token_ids), item.logprobs)
        for prompt, tokens, item in zip(chosen, contexts, engine.generate(contexts, sampling), strict=True)
    )
    context = getattr(candidate, "context", None)
    return Subject(engine, cases, _text(engine, everything), engine.inspect(), getattr(context, "reopen", None), asked)


def _text(engine: Engine, prompts: PromptSet) -> TokenIds:
    """The prompts as one running text, as often as it takes, without tokens that would end a generation."""
    several = chain.from_iterable(prompt.encode(engine) for prompt in prompts.take(TEXT_TOKENS))
    tokens = [token for token in islice(several, TEXT_TOKENS) if token not in engine.eos_token_ids]
    return tuple(islice(cycle(tokens), TEXT_TOKENS))


def timed(candidate: Any) -> AbstractContextManager[None]:
    """Count what happens inside as engine time, where the candidate has a watch."""
    watch = getattr(candidate, "stopwatch", None)
    return nullcontext() if watch is None else watch.running()


def broken(outcomes: Sequence[Outcome], worst_kl: float) -> list[tuple[Outcome, Judged]]:
    """The relations that do not hold, with the smallest change that shows it."""
    return [(item, found) for item in outcomes if (found := item.first_broken(worst_kl)) is not None]
