"""What relations found: pairs of evidence, judged at equal prefixes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._places import Place
from pytest_llmopt.checks._texts import FIRST_END, context_room, running_text
from pytest_llmopt.checks._vocabulary import require_vocabulary
from pytest_llmopt.core.errors import AnswerError, NoRoomError, NotAnsweredError, TestTimeoutError, WorkerError
from pytest_llmopt.core.inspection import Inspection
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.relation import Case, NotApplicableError, RelationBrokenError, Subject
from pytest_llmopt.core.requests import ForceDecode, Inspect
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.statistics.divergence import kl_divergence, logprob_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.checks._limits import Limits
    from pytest_llmopt.core.answers import Generation
    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.core.relation import Pair, Relation
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

CONTEXT_TOKENS = 32
"""The end of each prompt that is used: what matters here is state and shape, not content."""
TEXT_TOKENS = 640


@dataclass(frozen=True, eq=False)
class JudgedPair:
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
    def of(cls, pair: Pair) -> JudgedPair:
        """Compare the two sides of a pair."""
        aligned = pair.aligned()
        base, changed = aligned.base, aligned.changed
        usable = base.is_finite & changed.is_finite
        return cls(aligned, kl_divergence(base, changed), logprob_difference(base, changed), int((~usable).sum()))

    def breaks(self, limits: Limits) -> bool:
        """Whether it differs by more than the limits; NaN does."""
        return exceeds(self.kl, limits)

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
    pairs: tuple[JudgedPair, ...] = ()
    not_applicable: str = ""
    unanswered: str = ""
    """Why it was not tried, where that is for a request that the engine does not answer."""
    broken: str = ""
    """What does not hold, where it is no evidence about tokens that shows it."""

    @property
    def kl(self) -> FloatArray:
        """The divergences of all pairs."""
        return np.concatenate([item.kl for item in self.pairs])

    def first_broken(self, limits: Limits) -> JudgedPair | None:
        """The pair with the smallest change that makes a difference: relations give the smallest first."""
        if not self.pairs or not exceeds(self.kl, limits):
            return None
        return next(item for item in self.pairs if item.breaks(limits))


def exceeds(kl: FloatArray, limits: Limits) -> bool:
    """Whether divergences are beyond a limit, at one position or on average; NaN is."""
    return not (np.max(kl) <= limits.worst_kl and np.mean(kl) <= limits.mean_kl)


def run(name: str, relation: Relation, subject: Subject, reference: Side | None = None) -> Outcome:
    """What a relation finds. An error that is no refusal comes with the name of the relation.

    Unless the reference ends in the same error: then the architecture or the library cannot do it, no optimization
    broke it, and the relation says nothing.
    """
    promise = (relation.__doc__ or name).strip().partition("\n")[0]
    found: list[JudgedPair] = []
    pairs = relation(subject)
    try:
        found.extend(JudgedPair.of(pair) for pair in pairs)
    except (AnswerError, TestTimeoutError, WorkerError):
        raise  # it says nothing of the relation, and nothing more can be asked
    except NotAnsweredError as error:
        return Outcome(name, promise, tuple(found), unanswered=str(error))
    except NotApplicableError as error:
        return Outcome(name, promise, not_applicable=str(error))
    except NoRoomError as error:
        # What fitted is judged; where nothing did, the others are.
        return Outcome(name, promise, tuple(found), not_applicable="" if found else str(error))
    except RelationBrokenError as error:
        return Outcome(name, promise, tuple(found), broken=str(error))
    except Exception as error:
        if reference is not None and _ends_alike(relation, subject, reference, error):
            reason = f"the reference cannot do it either: {type(error).__name__}: {error}"
            return Outcome(name, promise, not_applicable=reason)
        error.add_note(f"while relation {name!r} of assert_invariant was tried: {promise}")
        raise
    finally:
        # An engine that it has opened is closed now, and not once it is collected.
        getattr(pairs, "close", lambda: None)()
    return Outcome(name, promise, tuple(found))


def _ends_alike(relation: Relation, subject: Subject, reference: Side, error: Exception) -> bool:
    """Whether a relation ends in an error of the same type on the reference."""
    engine = reference.fresh()
    try:
        other = dataclasses.replace(
            subject, engine=engine, inspection=engine.inspect(), reopen=reference.context.reopen
        )
        for _ in relation(other):
            pass
    except Exception as own:  # noqa: BLE001 - whatever it is, it is only compared
        return type(own) is type(error)
    return False


def subject_of(
    candidate: Side,
    prompts: object,
    *,
    num_prompts: int,
    max_new_tokens: int,
    asked: bool,
    reference: Side | None = None,
) -> Subject:
    """An engine with a few prompts that it has decoded once: its very first call where nothing else has used it.

    Raises:
        OptionError: it has room for no prompt with its output.
    """
    engine = candidate.fresh()
    room = context_room(engine, CONTEXT_TOKENS, max_new_tokens)
    everything = PromptSet.of(prompts)
    chosen = everything.take(num_prompts)
    contexts = [prompt.encode(engine)[-room:] for prompt in chosen]
    text = running_text(everything.take(TEXT_TOKENS), engine, TEXT_TOKENS)
    sampling = SamplingParams(max_new_tokens=max_new_tokens, ignore_eos=True)
    first = engine.generate(contexts, sampling)
    require_vocabulary([prompt.id for prompt in chosen], first, engine)
    decoded = _whole(engine, first, text[FIRST_END + 1 :][:max_new_tokens])
    cases = tuple(
        Case(prompt.id, item.continuation, item.logprobs) for prompt, item in zip(chosen, decoded, strict=True)
    )
    against = None if reference is None else reference.fresh()
    seen = engine.inspect() if engine.can(Inspect) else Inspection()
    return Subject(engine, cases, text, seen, candidate.context.reopen, asked, against)


def _whole(engine: Side, decoded: Sequence[Generation], text: TokenIds) -> list[Generation]:
    """As many tokens of each prompt as were asked for: where an engine ended although it was to go on, those of a text.

    The first call of an engine that does as it is asked stays the evidence.
    """
    items = list(decoded)
    short = [place for place, item in enumerate(items) if len(item.logprobs) < len(text)]
    if short and engine.can(ForceDecode):
        forced = engine.force([Continuation(items[place].prompt_ids, text) for place in short])
        for place, item in zip(short, forced, strict=True):
            items[place] = item
    return items


def broken(outcomes: Sequence[Outcome], limits: Limits) -> list[tuple[Outcome, JudgedPair]]:
    """The relations that do not hold, with the smallest change that shows it."""
    return [(item, found) for item in outcomes if (found := item.first_broken(limits)) is not None]
