"""One prompt: what every engine can take, and what a certain one can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pytest_llmopt.core.errors import LlmoptError, PromptError
from pytest_llmopt.core.text import shown
from pytest_llmopt.core.values import CountOrNone, Length, fit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

Kind = Annotated[str, Length(0)]
Ids = tuple[CountOrNone, ...]


@dataclass(frozen=True)
class Prompt:
    """One prompt: text that the engine encodes, or token ids that are used as they are."""

    id: str
    text: str = ""
    token_ids: TokenIds = ()
    kind: str = ""

    def __post_init__(self) -> None:
        """Refuse what no engine can take.

        Raises:
            PromptError: the id is no name, the text cannot be encoded, or a token id is no whole number from 0.
        """
        try:
            fit("its id", self.id, str)
            fit("its kind", self.kind, Kind)
            token_ids = fit("its token_ids", self.token_ids, Ids)
        except LlmoptError as error:
            msg = f"prompt {shown(self.id)} cannot be used: {error}"
            raise PromptError(msg) from None
        object.__setattr__(self, "token_ids", token_ids)
        reason = _reason_against(self.text)
        if reason:
            msg = f"prompt {shown(self.id)} {reason}"
            raise PromptError(msg)

    def encode(self, engine: Side) -> TokenIds:
        """Its tokens for an engine.

        Raises:
            PromptError: it has no tokens, or one that the engine's vocabulary does not have.
        """
        token_ids = self.token_ids or engine.encode(self.text)
        if not token_ids:
            msg = f"prompt {self.id!r} has no tokens for {engine.variant.model}; give it a text or token_ids"
            raise PromptError(msg)
        require_known(self.id, token_ids, engine)
        return token_ids


def require_known(name: str, token_ids: TokenIds, engine: Side) -> None:
    """Refuse tokens of a prompt that an engine does not have.

    Raises:
        PromptError: naming the first one with its place.
    """
    size = engine.vocab_size
    if max(token_ids) < size:
        return
    place = next(place for place, token in enumerate(token_ids) if token >= size)
    msg = (
        f"prompt {name!r} has the token id {shown(token_ids[place])} at position {place}, and the vocabulary of "
        f"{engine.variant.model} ends at {size - 1}: give ids from its own tokenizer, or a text"
    )
    raise PromptError(msg)


def require_room(prompts: Iterable[tuple[str, TokenIds]], new_tokens: int, *sides: Side | None) -> None:
    """Refuse prompts that a side has no room for, or no token for.

    Args:
        prompts: ids with tokens.
        new_tokens: what is to follow each of them.
        sides: both sides of a comparison; None for one that is not there.

    Raises:
        PromptError: naming the prompt, its length and the room.
    """
    for name, token_ids in prompts:
        for engine in sides:
            if engine is None:
                continue
            require_known(name, token_ids, engine)
            room, wanted = engine.max_length, len(token_ids) + new_tokens
            if room is not None and wanted > room:
                msg = (
                    f"prompt {name!r} does not fit: it has {len(token_ids)} tokens, {new_tokens} are to follow, and "
                    f"{engine.variant.label} of {engine.variant.model} has room for {room} in all, not for {wanted} "
                    "(its max_position_embeddings, its draft's, or max_cache_len). Give shorter prompts or a smaller "
                    "max_new_tokens"
                )
                raise PromptError(msg)


def _reason_against(text: object) -> str:
    """Why it is no text of a prompt; empty where it is."""
    if not isinstance(text, str):
        return f"must have a text, got {shown(text)}"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"{text[error.start]!r} at character {error.start}"
        return f"holds one half of a surrogate pair, {half}, which no tokenizer takes; write the whole character"
    return ""
