"""What an equivalence check looks at: greedy decoding, a second call, forced decoding, chunked prefill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmopt.checks._drift import Observed
from pytest_llmopt.core.engine import Continuation, Engine, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.engine import Generation
    from pytest_llmopt.core.prompts import PromptSet

FORCED_PROMPTS = 4
FORCED_FROM = 8
"""Tokens of a forced prompt that are prefilled; all others are forced through the decode path."""
PREFILL_CHUNK = 16


@dataclass(frozen=True)
class Run:
    """What was observed in one go, and how many graphs were compiled once more when warm; None where none is."""

    observed: tuple[Observed, ...]
    recompiled: int | None


def long_prompts(prompts: PromptSet, engine: Engine, forced_tokens: int) -> list[tuple[str, Continuation]]:
    """The longest prompts as continuations to force: positions that a short greedy run never reaches."""
    if not forced_tokens:
        return []
    encoded = [(prompt.id, prompt.encode(engine)[: FORCED_FROM + forced_tokens]) for prompt in prompts]
    fitting = [(name, ids) for name, ids in encoded if len(ids) > FORCED_FROM and not engine.eos_token_ids & set(ids)]
    longest = sorted(fitting, key=lambda item: -len(item[1]))[:FORCED_PROMPTS]
    return [(name, Continuation(ids[:FORCED_FROM], ids[FORCED_FROM:])) for name, ids in longest]


def observe(
    candidate: Engine,
    reference: Engine,
    prompts: PromptSet,
    max_new_tokens: int,
    long: Sequence[tuple[str, Continuation]],
) -> Run:
    """Decode, decode again, force long prompts through the decode path; score exactly those tokens."""
    forced = [(f"{name} (forced)", item) for name, item in zip(_names(long), _force(candidate, long), strict=True)]
    encoded = [prompt.encode(candidate) for prompt in prompts]
    sampling = SamplingParams(max_new_tokens=max_new_tokens)
    decoded = list(zip((prompt.id for prompt in prompts), candidate.generate(encoded, sampling), strict=True))
    compiled = candidate.compilations()
    # Once more, now that caches, graphs and drafts have been used: what is left over from a call shows in the next.
    again = prompts.take(max(1, len(prompts) // 4))
    repeated = candidate.generate(encoded[: len(again)], sampling)
    decoded += [(f"{prompt.id} (second call)", item) for prompt, item in zip(again, repeated, strict=True)]
    recompiled = candidate.compilations() - compiled if compiled else None
    if recompiled is None:  # a compiled prefill would be compiled anew for every length of chunk
        chunked = [(name, Continuation(*_split(item))) for name, item in long]
        pieces = _force(candidate, chunked, prefill_chunk=PREFILL_CHUNK)
        forced += [(f"{name} (chunked prefill)", item) for name, item in zip(_names(chunked), pieces, strict=True)]
    everything = decoded + forced
    scored = reference.score([item.continuation for _, item in everything])
    observed = (
        Observed.of(name, item, theirs, forced=place >= len(decoded))
        for place, ((name, item), theirs) in enumerate(zip(everything, scored, strict=True))
    )
    return Run(tuple(observed), recompiled)


def _names(items: Sequence[tuple[str, Continuation]]) -> list[str]:
    return [name for name, _ in items]


def _force(
    engine: Engine, items: Sequence[tuple[str, Continuation]], prefill_chunk: int | None = None
) -> list[Generation]:
    return engine.force([item for _, item in items], prefill_chunk=prefill_chunk) if items else []


def _split(item: Continuation) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """All but the last few tokens as the prompt, so that most of it is prefilled."""
    ids = item.prompt_ids + item.token_ids
    kept = min(FORCED_FROM, len(ids) - 1)
    return ids[:-kept], ids[-kept:]
