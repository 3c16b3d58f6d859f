"""Prompts with stable ids, so that results of two sides and two runs can be paired."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_llmopt.core.engine import Engine, TokenIds


@dataclass(frozen=True)
class Prompt:
    """One prompt: text that the engine encodes, or token ids that are used as they are."""

    id: str
    text: str = ""
    token_ids: TokenIds = ()
    kind: str = ""

    def encode(self, engine: Engine) -> TokenIds:
        """Its tokens for an engine.

        Raises:
            PromptError: it has no tokens.
        """
        token_ids = self.token_ids or engine.encode(self.text)
        if not token_ids:
            msg = f"prompt {self.id!r} has no tokens for {engine.variant.model}"
            raise PromptError(msg)
        return token_ids


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
        if isinstance(prompts, str) or not isinstance(prompts, (list, tuple)):
            msg = f"prompts must be a list of texts, token ids or Prompt, got {type(prompts).__name__}"
            raise PromptError(msg)
        return cls(tuple(_prompt(index, item) for index, item in enumerate(prompts)))

    @classmethod
    def load(cls, path: Path) -> PromptSet:
        """The prompts of a JSON Lines file: objects with `text` or `token_ids`, and optionally `id` and `kind`.

        Raises:
            PromptError: the file is missing, or a line is not such an object; names the line.
        """
        try:
            lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: JSON allows U+2028 in a text
        except (OSError, UnicodeDecodeError) as error:
            msg = f"cannot read prompts of {path}: {error}"
            raise PromptError(msg) from None
        prompts = [_from_line(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
        if not prompts:
            msg = f"the prompt set {path} is empty; write one JSON object a line, such as {{'text': 'Once upon'}}"
            raise PromptError(msg)
        return cls(tuple(prompts))


def cluster_keys(texts: Sequence[TokenIds]) -> list[int]:
    """The place of the first text with the same tokens, by text: equal keys are one cluster of an interval.

    Copies of a text are as dependent as tokens of one: 24 of them tell nothing about other texts.
    """
    first: dict[TokenIds, int] = {}
    return [first.setdefault(tuple(tokens), place) for place, tokens in enumerate(texts)]


def _prompt(index: int, item: object) -> Prompt:
    match item:
        case Prompt():
            return item
        case str():
            return Prompt(id=f"{index:03d}", text=item)
        case list() | tuple() if item and all(isinstance(token, int) for token in item):
            return Prompt(id=f"{index:03d}", token_ids=tuple(item))
    msg = f"prompt {index} must be a text, a list of token ids or a Prompt, got {item!r}"
    raise PromptError(msg)


def _from_line(path: Path, number: int, line: str) -> Prompt:
    where = f"{path}:{number}"
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        msg = f"{where} is not JSON: {error}"
        raise PromptError(msg) from None
    if not isinstance(content, dict) or ("text" in content) == ("token_ids" in content):
        msg = f"{where} must be an object with either 'text' or 'token_ids', got {line[:80]}"
        raise PromptError(msg)
    unknown = content.keys() - {"id", "kind", "text", "token_ids"}
    if unknown:
        msg = f"{where} has unknown keys {', '.join(sorted(unknown))}; known: id, kind, text, token_ids"
        raise PromptError(msg)
    text, token_ids = content.get("text", ""), content.get("token_ids", [0])
    if not isinstance(text, str):
        msg = f"{where} must have a text in 'text', got {text!r}"
        raise PromptError(msg)
    if not isinstance(token_ids, list) or not token_ids or not all(type(token) is int for token in token_ids):
        msg = f"{where} must have a non-empty list of whole numbers in 'token_ids', got {token_ids!r}"
        raise PromptError(msg)
    return Prompt(
        id=str(content.get("id", f"{number:03d}")),
        text=text,
        token_ids=tuple(content.get("token_ids", ())),
        kind=str(content.get("kind", "")),
    )
