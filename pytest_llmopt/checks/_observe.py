"""What an equivalence check looks at: greedy decoding first, then second calls, forced decoding, chunked prefill."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from pytest_llmopt.checks._abilities import PREFILL_CHUNK as IN_PIECES
from pytest_llmopt.checks._abilities import lacks
from pytest_llmopt.checks._drift import Observed
from pytest_llmopt.checks._reference import choices, require_finite_reference
from pytest_llmopt.core.engine import Continuation, Engine, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.engine import Generation, TokenIds
    from pytest_llmopt.core.prompts import Prompt, PromptSet

FORCED_PROMPTS = 3
FORCED_FROM = 8
"""Tokens of a forced prompt that are prefilled; all others are forced through the decode path."""
PREFILL_CHUNK = 16


@dataclass(frozen=True)
class Run:
    """What was observed so far."""

    observed: tuple[Observed, ...]
    recompiled: int | None = None
    """Graphs that were compiled once more when warm; None where none is compiled, or before the second call."""

    def grown(self, other: Run) -> Run:
        """With what was observed of further prompts."""
        return dataclasses.replace(self, observed=self.observed + other.observed)


def long_prompts(prompts: PromptSet, engine: Engine, forced_tokens: int) -> list[tuple[str, Continuation]]:
    """The longest prompts as continuations to force: positions that a short greedy run never reaches."""
    if not forced_tokens:
        return []
    encoded = [(prompt.id, prompt.encode(engine)[: FORCED_FROM + forced_tokens]) for prompt in prompts]
    fitting = [(name, ids) for name, ids in encoded if len(ids) > FORCED_FROM and not engine.eos_token_ids & set(ids)]
    longest = sorted(fitting, key=lambda item: -len(item[1]))[:FORCED_PROMPTS]
    return [(name, Continuation(ids[:FORCED_FROM], ids[FORCED_FROM:])) for name, ids in longest]


def decode(
    candidate: Engine,
    reference: Engine,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    stop_token_ids: TokenIds = (),
) -> Run:
    """Decode greedily; score exactly those tokens. What most bugs show in, at the price of one decode."""
    encoded = [prompt.encode(candidate) for prompt in prompts]
    sampling = SamplingParams(max_new_tokens=max_new_tokens, stop_token_ids=stop_token_ids)
    generations = candidate.generate(encoded, sampling)
    names = [prompt.id for prompt in prompts]
    return Run(_observed(reference, names, generations, forced=False, stop_token_ids=stop_token_ids))


def widen(
    run: Run,
    candidate: Engine,
    reference: Engine,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    long: Sequence[tuple[str, Continuation]],
) -> Run:
    """Decode again, to the end and up to stops; force long prompts, whole and after a prefill in chunks.

    Args:
        run: what the first call showed.
        candidate: the side that decodes.
        reference: the side that scores what was decoded.
        prompts: those to decode once more.
        max_new_tokens: tokens to decode after each of them.
        long: names of long prompts, and their tokens to force.
    """
    compiled = candidate.compilations()
    # Once more, now that caches, graphs and drafts have been used: what is left over from a call shows in the next.
    again = decode(candidate, reference, prompts, max_new_tokens)
    recompiled = candidate.compilations() - compiled if compiled else None
    stops = tuple(dict.fromkeys(_stop(item.generation) for item in again.observed))
    stopped = decode(candidate, reference, prompts, max_new_tokens, stops)
    observed = run.observed + _named(again, "second call") + _named(stopped, "with stops")
    names = [name for name, _ in long]
    forced = _force(candidate, long)
    observed += _observed(reference, [f"{name} (forced)" for name in names], forced, forced=True)
    if recompiled is None and IN_PIECES not in lacks(
        candidate
    ):  # a compiled prefill would be compiled anew for every length of chunk
        chunked = [(name, Continuation(*_split(item))) for name, item in long]
        pieces = _force(candidate, chunked, prefill_chunk=PREFILL_CHUNK)
        observed += _observed(reference, [f"{name} (chunked prefill)" for name in names], pieces, forced=True)
    return Run(observed, recompiled)


def _named(run: Run, call: str) -> tuple[Observed, ...]:
    return tuple(dataclasses.replace(item, prompt_id=f"{item.prompt_id} ({call})") for item in run.observed)


def _stop(generation: Generation) -> int:
    """A token that first comes near the middle of a text, inside what one step emitted where there is such a place.

    A text that stops there has more tokens of the same drafted block behind its end, as where a draft is right about
    the end of a text.
    """
    tokens = generation.token_ids
    last_of_step = set(accumulate(step.emitted for step in generation.steps))
    first = [place for place, token in enumerate(tokens) if token not in tokens[:place]]
    inside = [place for place in first if place + 1 not in last_of_step]
    return tokens[min(inside or first, key=lambda place: abs(place - len(tokens) // 2))]


def _observed(
    reference: Engine,
    names: Sequence[str],
    generations: Sequence[Generation],
    *,
    forced: bool,
    stop_token_ids: TokenIds = (),
) -> tuple[Observed, ...]:
    given = [item.continuation for item in generations]
    scored = reference.score(given) if given else []
    require_finite_reference(names, given, scored)
    choice = scored if forced else choices(reference, given, scored, stop_token_ids)
    return tuple(
        Observed.of(name, item, theirs, forced=forced, choice=own)
        for name, item, theirs, own in zip(names, generations, scored, choice, strict=True)
    )


def _force(
    engine: Engine, items: Sequence[tuple[str, Continuation]], prefill_chunk: int | None = None
) -> list[Generation]:
    return engine.force([item for _, item in items], prefill_chunk=prefill_chunk) if items else []


def _split(item: Continuation) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """All but the last few tokens as the prompt, so that most of it is prefilled."""
    ids = item.prompt_ids + item.token_ids
    kept = min(FORCED_FROM, len(ids) - 1)
    return ids[:-kept], ids[-kept:]
