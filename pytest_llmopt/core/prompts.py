"""Prompts with stable ids, so that results of two sides and two runs can be paired."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import PromptError
from pytest_llmopt.core.prompt import Prompt
from pytest_llmopt.core.prompt_files import read_prompts
from pytest_llmopt.core.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

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

    def distinct(self, engine: Side) -> PromptSet:
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
        return cls(read_prompts(path))


def cluster_keys(texts: Sequence[TokenIds]) -> list[int]:
    """The place of the first text with the same tokens, by text: equal keys are one cluster of an interval.

    Copies of a text are as dependent as tokens of one: 24 of them tell nothing about other texts.
    """
    first: dict[TokenIds, int] = {}
    return [first.setdefault(tuple(tokens), place) for place, tokens in enumerate(texts)]


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
