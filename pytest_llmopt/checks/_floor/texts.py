"""The texts of a noise floor: decoded by the reference itself, and long enough whatever the prompts are."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import TYPE_CHECKING

from pytest_llmopt.core.requests import ForceDecode
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.tokens import Continuation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.answers import Generation
    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

PROMPTS, TOKENS = 8, 40
"""One batch, and the tokens that are decoded of each text."""
LEAST = 64
"""Positions of all texts together, at least: of fewer prompts, longer texts."""
CONTEXT = 64
"""The end of each prompt that is used: every change scores it again, and eager attention takes the square of it."""


@dataclass(frozen=True, eq=False)
class Texts:
    """Prompts with what the reference made of them, and the log-probabilities that its decode path acted on."""

    given: tuple[Continuation, ...]
    decoded: tuple[TopLogprobs, ...]

    @property
    def batched(self) -> str:
        """What decoding them together adds to decoding one: padding, where their lengths differ."""
        return "left padding" if len({len(item.prompt_ids) for item in self.given}) > 1 else "batched decode"

    def beginnings(self, tokens: int) -> list[Continuation]:
        """The first tokens of every text."""
        return [self.first(place, tokens) for place in range(len(self.given))]

    def first(self, place: int, tokens: int) -> Continuation:
        """The beginning of a text."""
        item = self.given[place]
        return Continuation(item.prompt_ids, item.token_ids[:tokens])


def texts_of(engine: Side, prompts: PromptSet) -> Texts:
    """The first prompts, each decoded beyond its end, so that texts that end at once are as long as others."""
    chosen = prompts.take(PROMPTS)
    room = engine.max_length or CONTEXT + TOKENS + LEAST
    tokens = min(max(TOKENS, math.ceil(LEAST / len(chosen))), room - 1)
    context = max(1, min(CONTEXT, room - tokens))
    encoded = [prompt.encode(engine)[-context:] for prompt in chosen]
    decoded = engine.generate(encoded, SamplingParams(max_new_tokens=tokens, ignore_eos=True))
    running = _running_text(engine, encoded, tokens)
    whole = [_until_the_end(engine, item, running) for item in decoded]
    return Texts(tuple(item.continuation for item in whole), tuple(item.logprobs for item in whole))


def without_end(tokens: TokenIds, engine: Side) -> TokenIds:
    """The tokens before the first one that ends a text, which cannot be forced."""
    ends = [place for place, token in enumerate(tokens) if token in engine.eos_token_ids]
    return tokens[: ends[0]] if ends else tokens


def _until_the_end(engine: Side, item: Generation, running: TokenIds) -> Generation:
    """What can be forced once more. Some engines end a text although they are told to go on: then the running text."""
    kept = len(without_end(item.token_ids, engine))
    if kept == len(item.token_ids):
        return item
    if kept < len(running) and engine.can(ForceDecode):
        return engine.force([Continuation(item.prompt_ids, running)])[0]
    return dataclasses.replace(item, logprobs=item.logprobs[:kept])


def _running_text(engine: Side, encoded: Sequence[TokenIds], tokens: int) -> TokenIds:
    """The prompts one after the other, as often as it takes, without tokens that would end a text."""
    several = [token for token in chain.from_iterable(encoded) if token not in engine.eos_token_ids]
    several = several or [token for token in range(engine.vocab_size) if token not in engine.eos_token_ids][:tokens]
    return tuple(islice(cycle(several), tokens))
