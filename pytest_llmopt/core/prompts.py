"""Prompts with stable ids, so that results of two sides and two runs can be paired."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pytest_llmopt.core.errors import LlmoptError, PromptError
from pytest_llmopt.core.text import shown
from pytest_llmopt.core.values import CountOrNone, Length, fit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_llmopt.core.engine import Engine, TokenIds

ADVICE = {
    "str": "put a text into a list",
    "bytes": "decode it, and put the text into a list",
    "dict": "give list(prompts.values())",
    "set": "a set has no order: give sorted(prompts)",
    "frozenset": "a set has no order: give sorted(prompts)",
    "NoneType": "return the prompts from your fixture",
    "function": "return its result from your fixture",
    "ndarray": "give prompts.tolist()",
    "Tensor": "give prompts.tolist()",
}
"""What to do with something that is no list."""
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

    def encode(self, engine: Engine) -> TokenIds:
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


def require_known(name: str, token_ids: TokenIds, engine: Engine) -> None:
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


def require_room(prompts: Iterable[tuple[str, TokenIds]], new_tokens: int, *sides: Engine | None) -> None:
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


@dataclass(frozen=True)
class PromptSet:
    """A non-empty sequence of prompts with distinct ids."""

    prompts: tuple[Prompt, ...]

    def __post_init__(self) -> None:
        """Refuse an empty set and ids that occur twice."""
        if not self.prompts:
            msg = "the prompt set is empty; give at least one prompt"
            raise PromptError(msg)
        counts = Counter(prompt.id for prompt in self.prompts)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            msg = f"prompt ids must be distinct; these occur more than once: {', '.join(twice)}"
            raise PromptError(msg)

    def __repr__(self) -> str:
        """What a failing test shows of it."""
        return f"<{len(self)} prompts, {self.prompts[0].id} first>"

    def __len__(self) -> int:
        """The number of prompts."""
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        """The prompts in their order."""
        return iter(self.prompts)

    def __getitem__(self, index: int) -> Prompt:
        """One prompt by its place."""
        return self.prompts[index]

    def take(self, count: int) -> PromptSet:
        """The first `count` prompts, or all of them when there are fewer."""
        return PromptSet(self.prompts[:count])

    def distinct(self, engine: Engine) -> PromptSet:
        """Without the prompts whose tokens are those of an earlier one: a copy is no further sample."""
        clusters = cluster_keys([prompt.encode(engine) for prompt in self])
        return PromptSet(tuple(self[first] for first in dict.fromkeys(clusters)))

    @classmethod
    def of(cls, prompts: object) -> PromptSet:
        """A prompt set from what a test's own `prompts` fixture may return: texts, token ids, or prompts.

        Raises:
            PromptError: it is not a sequence of such things, or it is empty.
        """
        if isinstance(prompts, PromptSet):
            return prompts
        if not isinstance(prompts, (list, tuple)):
            kind = type(prompts).__name__
            advice = ADVICE.get(kind, "give list(prompts), made once" if hasattr(prompts, "__iter__") else "")
            msg = f"prompts must be a list of texts, token ids or Prompt, got {kind}{'; ' if advice else ''}{advice}"
            raise PromptError(msg)
        return cls(tuple(_prompt(index, item) for index, item in enumerate(prompts)))

    @classmethod
    def load(cls, path: Path) -> PromptSet:
        """The prompts of a JSON Lines file: objects with `text` or `token_ids`, and optionally `id` and `kind`.

        Raises:
            PromptError: the file is missing, or a line is not such an object; names the line.
        """
        from pytest_llmopt.core.prompt_files import read_prompts

        return cls(read_prompts(path))


def cluster_keys(texts: Sequence[TokenIds]) -> list[int]:
    """The place of the first text with the same tokens, by text: equal keys are one cluster of an interval.

    Copies of a text are as dependent as tokens of one: 24 of them tell nothing about other texts.
    """
    first: dict[TokenIds, int] = {}
    return [first.setdefault(tuple(tokens), place) for place, tokens in enumerate(texts)]


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


def _prompt(index: int, item: object) -> Prompt:
    name = f"{index:03d}"
    if isinstance(item, Prompt):
        return item
    if hasattr(item, "tolist"):
        item = item.tolist()
    if isinstance(item, str) and item:
        return Prompt(name, item)
    if isinstance(item, (list, tuple)) and item:
        return Prompt(name, token_ids=tuple(item))
    msg = f"prompt {index} must be a text, a list of token ids or a Prompt, none of them empty, got {shown(item)}"
    raise PromptError(msg)
