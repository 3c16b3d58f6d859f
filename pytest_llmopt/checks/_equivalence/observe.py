"""What an equivalence check looks at: a greedy decode first, then second calls, depth, and every other way in.

A way in is how tokens reach the model: one at a time over the cache, many at a time over the cache, or all at once
without one. Libraries have code of its own for each, and a bug shows on the way that has it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._equivalence.observation import GREEDY, Observation
from pytest_llmopt.checks._invariance.abilities import PREFILL_CHUNK, lacks, lost
from pytest_llmopt.checks._reference import choices, require_finite_reference
from pytest_llmopt.checks._texts import running_text, stretches
from pytest_llmopt.checks._vocabulary import require_vocabulary
from pytest_llmopt.core.answers import Generation, Timing
from pytest_llmopt.core.prompt import require_room
from pytest_llmopt.core.requests import CountGraphs, ForceDecode, Score
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.tokens import Continuation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.core.prompt import Prompt
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

CONTEXTS = (8, 24, 60, 120, 250, 470)
"""Tokens before those that are forced one at a time; all rows go together. Each forced stretch crosses the end of a
block or of a small window."""
DEPTHS = (1000, 2000)
"""Further contexts, one row each, for few tokens; the deepest is what there is room for."""
DEEP_TOKENS = 4
PIECE_ROWS, PIECE_LENGTH, PIECE = 7, 512, 64
"""Texts that are read over the cache, and how many tokens a pass is fed."""
DEEP_PIECE = 512
FORWARD_ROWS = 4
"""Of these texts, those that are read without a cache as well."""
SHORTEST_TEXT = 2
"""Tokens: one to be given, one to be judged."""
COMPILED_ANEW = "every further length would be compiled anew"

DECODE = "decode"
DECODED = frozenset({GREEDY, "forced"})
"""The paths on which tokens come one at a time."""


@dataclass(frozen=True)
class DecodeRun:
    """What was observed so far."""

    observed: tuple[Observation, ...]
    recompiled: int | None = None
    """Graphs that were compiled once more when warm; None where none is compiled, or before the second call."""
    cut_short: int = 0
    """Texts that stopped before their length, for no token that ends one."""
    past_the_end: int = 0
    """Tokens emitted beyond what was asked for."""
    ends_unknown: bool = False
    """Whether a text ended early and nothing but the engine's own word says that it may."""
    depth_left_out: str = ""
    """Why only the first contexts were looked at; empty where all were."""

    def grown(self, other: DecodeRun) -> DecodeRun:
        """With what was observed of further prompts."""
        return dataclasses.replace(
            self,
            observed=self.observed + other.observed,
            cut_short=self.cut_short + other.cut_short,
            past_the_end=self.past_the_end + other.past_the_end,
            ends_unknown=self.ends_unknown or other.ends_unknown,
        )

    @property
    def looked_at(self) -> Mapping[str, int]:
        """Positions by the way in that they were seen on, and the deepest."""
        counts = Counter({f"{item.path} positions": 0 for item in self.observed})
        for item in self.observed:
            counts[f"{item.path} positions"] += len(item.kl)
        deepest = max(item.start + len(item.kl) - 1 for item in self.observed)
        texts = len(clusters(self.observed, [item.kl for item in self.observed]))
        return {**counts, "deepest position": deepest, "different texts": texts}

    @property
    def decoded_positions(self) -> int:
        """Positions that the candidate came to one token, or one drafted block, at a time."""
        return sum(len(item.kl) for item in self.observed if item.path in DECODED)


def clusters(observed: Sequence[Observation], values: Sequence[FloatArray]) -> list[FloatArray]:
    """The values by text: once more the same prompt is no further evidence about other prompts."""
    groups: dict[TokenIds, list[FloatArray]] = {}
    for item, own in zip(observed, values, strict=True):
        continuation = item.generation.continuation
        # What is chosen belongs to its prompt, however far it went; what is given is a text by itself.
        given = continuation.token_ids if item.forced else ()
        groups.setdefault(continuation.prompt_ids + given, []).append(own)
    return [np.concatenate(group) for group in groups.values()]


def ways_in(observed: Sequence[Observation]) -> dict[str, list[int]]:
    """Places by the way in: `decode` is one token at a time, chosen or forced."""
    ways: dict[str, list[int]] = {}
    for place, item in enumerate(observed):
        ways.setdefault(DECODE if item.path in DECODED else item.path, []).append(place)
    return ways


@dataclass(frozen=True)
class Depth:
    """How far into the context a check looks."""

    forced_tokens: int
    """Driven through the decode path one at a time, in every row; 0 for no look at depth at all."""
    deepest: int
    """No position beyond this one."""
    prompts: PromptSet
    _encoded: dict[int, TokenIds] = field(default_factory=dict)

    def room(self, *sides: Side) -> int:
        """Tokens of the longest text that both sides have room for, one to spare."""
        limits = [side.max_length for side in sides if side.max_length is not None]
        return min([self.deepest, *limits]) - 1

    def text(self, engine: Side, length: int) -> TokenIds:
        """Running text of the prompts."""
        if length not in self._encoded:
            self._encoded[length] = running_text(self.prompts, engine, length)
        return self._encoded[length]


def decode(
    candidate: Side,
    reference: Side,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    stop_token_ids: TokenIds = (),
) -> DecodeRun:
    """Decode greedily; score exactly those tokens. What most bugs show in, at the price of one decode."""
    encoded = [prompt.encode(candidate) for prompt in prompts]
    names = [prompt.id for prompt in prompts]
    require_room(zip(names, encoded, strict=True), max_new_tokens, candidate, reference)
    sampling = SamplingParams(max_new_tokens=max_new_tokens, stop_token_ids=stop_token_ids)
    generations = candidate.generate(encoded, sampling)
    require_vocabulary(names, generations, reference)
    ends = candidate.eos_token_ids.union(stop_token_ids)
    short = [own for own in generations if len(own.logprobs) < max_new_tokens]
    # Whatever the engine calls it, a text ends with a token that ends texts; where it knows none, its word is taken.
    believed = [own for own in short if own.finish_reason != "length"] if not candidate.eos_token_ids else []
    return DecodeRun(
        _observed(reference, names, generations, path=GREEDY, stop_token_ids=stop_token_ids),
        cut_short=sum(own.token_ids[-1] not in ends for own in short if own not in believed),
        past_the_end=sum(own.overrun + _beyond(own.token_ids, ends, max_new_tokens) for own in generations),
        ends_unknown=bool(believed),
    )


def _beyond(token_ids: TokenIds, ends: frozenset[int], max_new_tokens: int) -> int:
    """Tokens behind the first that ends a text, or behind the last that was asked for."""
    first = next((place for place, token in enumerate(token_ids[:max_new_tokens]) if token in ends), max_new_tokens - 1)
    return max(0, len(token_ids) - first - 1)


def widen(
    run: DecodeRun, candidate: Side, reference: Side, prompts: Sequence[Prompt], max_new_tokens: int, depth: Depth
) -> DecodeRun:
    """Decode again, to the end and up to stops; then force tokens deep in the context, by every way in.

    Args:
        run: what the first call showed.
        candidate: the side that decodes.
        reference: the side that scores what was decoded.
        prompts: those to decode once more.
        max_new_tokens: tokens to decode after each of them.
        depth: how far to look into the context.
    """
    compiled = candidate.compilations() if candidate.can(CountGraphs) else 0
    # Once more, now that caches, graphs and drafts have been used: what is left over from a call shows in the next.
    again = decode(candidate, reference, prompts, max_new_tokens)
    recompiled = candidate.compilations() - compiled if compiled else None
    stops = tuple(dict.fromkeys(_stop(item.generation) for item in again.observed))
    stopped = decode(candidate, reference, prompts, max_new_tokens, stops)
    run = run.grown(_named(again, "second call")).grown(_named(stopped, "with stops"))
    left_out = ""
    room = depth.room(candidate, reference)
    if depth.forced_tokens and room < SHORTEST_TEXT:
        left_out = f"there is room for {room} tokens of text"
    elif depth.forced_tokens:
        run = run.grown(DecodeRun((*_forced(candidate, reference, depth), *_forward(candidate, reference, depth))))
        left_out = COMPILED_ANEW if recompiled is not None else _no_pieces(candidate, reference)
        if not left_out and candidate.can(ForceDecode):
            run = run.grown(DecodeRun((*_in_pieces(candidate, reference, depth), *_deep(candidate, reference, depth))))
    return dataclasses.replace(run, recompiled=recompiled, depth_left_out=left_out)


def _no_pieces(candidate: Side, reference: Side) -> str:
    """Why its architecture cannot read a text in pieces; empty where it can, or where only the candidate cannot."""
    reason = "" if PREFILL_CHUNK in lost(candidate, reference) else lacks(candidate).get(PREFILL_CHUNK, "")
    return f"the architecture cannot process a prompt in pieces: {reason}" if reason else ""


def _forced(candidate: Side, reference: Side, depth: Depth) -> tuple[Observation, ...]:
    """Tokens forced one at a time behind contexts of several lengths, all rows together."""
    if not candidate.can(ForceDecode):
        return ()
    room = min(depth.room(candidate, reference), CONTEXTS[-1] + depth.forced_tokens)
    tokens = min(depth.forced_tokens, max(1, room - 1))
    contexts = dict.fromkeys(max(1, min(context, room - tokens)) for context in CONTEXTS)
    rows = stretches(depth.text(candidate, 2 * len(CONTEXTS) * (room + 1)), len(contexts), room)
    given = [
        Continuation(row[:context], row[context : context + tokens])
        for row, context in zip(rows, contexts, strict=False)
    ]
    names = [f"running text after {len(item.prompt_ids)} tokens (forced)" for item in given]
    return _observed(reference, names, candidate.force(given), path="forced")


def _texts(candidate: Side, reference: Side, depth: Depth, rows: int) -> tuple[list[str], list[Continuation]]:
    """Texts to read, with their names."""
    length = min(PIECE_LENGTH, depth.room(candidate, reference))
    texts = stretches(depth.text(candidate, PIECE_ROWS * (length + 1)), PIECE_ROWS, length)[:rows]
    return [f"running text {row}" for row in range(len(texts))], [Continuation(text[:1], text[1:]) for text in texts]


def _in_pieces(candidate: Side, reference: Side, depth: Depth) -> tuple[Observation, ...]:
    """Texts read many tokens at a time over the cache."""
    names, given = _texts(candidate, reference, depth, PIECE_ROWS)
    pieces = candidate.force(given, prefill_chunk=PIECE, report_prompt=True)
    return _observed(reference, [f"{name} (in pieces of {PIECE})" for name in names], pieces, path="chunked")


def _forward(candidate: Side, reference: Side, depth: Depth) -> tuple[Observation, ...]:
    """Texts read in one pass without a cache."""
    if not candidate.can(Score):
        return ()
    names, given = _texts(candidate, reference, depth, FORWARD_ROWS)
    alone = [
        Generation(item.prompt_ids, own, "length", (), Timing(0.0, 0.0, 0))
        for item, own in zip(given, candidate.score(given), strict=True)
    ]
    return _observed(reference, [f"{name} (without a cache)" for name in names], alone, path="forward")


def _deep(candidate: Side, reference: Side, depth: Depth) -> tuple[Observation, ...]:
    """A few tokens at each of several depths, and every position of one text as long as there is room for."""
    room = depth.room(candidate, reference)
    if room <= CONTEXTS[-1] + depth.forced_tokens + DEEP_TOKENS:
        return ()
    text = depth.text(candidate, room)
    contexts = [*(context for context in DEPTHS if context < room - 2 * DEEP_TOKENS), room - DEEP_TOKENS]
    observed: tuple[Observation, ...] = ()
    for context in contexts:
        given = [Continuation(text[:context], text[context : context + DEEP_TOKENS])]
        forced = candidate.force(given, prefill_chunk=DEEP_PIECE)
        observed += _observed(reference, [f"running text after {context} tokens (forced)"], forced, path="forced")
    whole = candidate.force([Continuation(text[:1], text[1:])], prefill_chunk=DEEP_PIECE, report_prompt=True)
    name = f"running text of {room} tokens (in pieces of {DEEP_PIECE})"
    return observed + _observed(reference, [name], whole, path="chunked")


def _named(run: DecodeRun, call: str) -> DecodeRun:
    observed = tuple(dataclasses.replace(item, prompt_id=f"{item.prompt_id} ({call})") for item in run.observed)
    return dataclasses.replace(run, observed=observed)


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
    reference: Side,
    names: Sequence[str],
    generations: Sequence[Generation],
    *,
    path: str,
    stop_token_ids: TokenIds = (),
) -> tuple[Observation, ...]:
    given = [item.continuation for item in generations]
    scored = reference.score(given) if given else []
    require_finite_reference(names, given, scored)
    choice = choices(reference, given, scored, stop_token_ids) if path == GREEDY else scored
    return tuple(
        Observation.of(name, item, theirs, path=path, choice=own)
        for name, item, theirs, own in zip(names, generations, scored, choice, strict=True)
    )
