"""Whether an answer belongs to its request: what is short, or about other tokens, would be judged as if it were not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_llmopt.core.answers import Generation
from pytest_llmopt.core.errors import AnswerError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.requests import ForceDecode, Generate, Score, ScoreChoice, ScoreThrough, Vary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_llmopt.core.requests import Request
    from pytest_llmopt.core.tokens import Continuation, TokenIds

__all__ = ["require_fit"]


def require_fit(request: Request[Any], answer: object, engine: str) -> None:
    """Refuse an answer that does not belong to its request.

    Raises:
        AnswerError: says what was asked for and what came.
    """
    why = _misfit(request, answer)
    if why:
        msg = (
            f"engine {engine!r} did not answer {type(request).__name__}: {why}; nothing is judged by it. Compare what "
            "its `ask` returns with the request's description"
        )
        raise AnswerError(msg)


def _misfit(request: Request[Any], answer: object) -> str:  # noqa: PLR0911 - one for each kind of request
    """Why an answer does not belong to its request, in words; empty where it does, or where nothing can be told."""
    match request:
        case Vary():
            return _misfit(request.request, answer)
        case Generate():
            return _of_each(answer, request.prompts, Generation, _other_prompt)
        case Score():
            return _of_each(answer, request.continuations, TopLogprobs, _other_tokens)
        case ScoreChoice() if answer is not None:
            return _of_each(answer, request.continuations, TopLogprobs, _other_tokens)
        case ScoreThrough():
            return _of_each((answer,), (request.continuation,), TopLogprobs, _other_tokens)
        case ForceDecode():
            wanted = [_forced(request, item) for item in request.continuations]
            return _of_each(answer, wanted, Generation, _other_decoding)
    return ""


def _forced(request: ForceDecode, item: Continuation) -> tuple[TokenIds, TokenIds]:
    """The prompt and the tokens that the answer is about."""
    if request.report_prompt:
        return item.prompt_ids[:1], item.prompt_ids[1:] + item.token_ids
    return item.prompt_ids, item.token_ids


def _of_each(answer: object, wanted: Sequence[Any], kind: type, differs: Callable[[Any, Any], str]) -> str:
    if not isinstance(answer, (tuple, list)) or not all(isinstance(item, kind) for item in answer):
        return f"it is no tuple of {kind.__name__}"
    if len(answer) != len(wanted):
        return f"{len(wanted)} were asked for and {len(answer)} came"
    found = ((place, differs(item, own)) for place, (item, own) in enumerate(zip(answer, wanted, strict=True)))
    return next((f"number {place + 1} is about {why}" for place, why in found if why), "")


def _other_prompt(generation: Generation, prompt: TokenIds) -> str:
    if not len(generation.logprobs):
        return "no token at all, where the one that ends a text counts as one"
    return "" if tuple(generation.prompt_ids) == tuple(prompt) else "another prompt"


def _other_tokens(scored: TopLogprobs, item: Continuation) -> str:
    return "" if np.array_equal(scored.token_ids, item.token_ids) else "other tokens"


def _other_decoding(generation: Generation, wanted: tuple[TokenIds, TokenIds]) -> str:
    prompt, tokens = wanted
    other = "" if np.array_equal(generation.logprobs.token_ids, tokens) else "other tokens than were forced"
    return _other_prompt(generation, prompt) or other
