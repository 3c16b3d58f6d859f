"""Token ids: what a model is given, what it is to score, and how text becomes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from pytest_llmopt.core.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

TokenIds: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Continuation:
    """Given tokens after a context: what teacher forcing scores."""

    prompt_ids: TokenIds
    token_ids: TokenIds

    def __post_init__(self) -> None:
        """Refuse a continuation that no causal model can score."""
        if not self.prompt_ids or not self.token_ids:
            msg = "a continuation needs at least one token of context and one token to score"
            raise OptionError(msg)

    def __len__(self) -> int:
        """The length of context and continuation together, in tokens."""
        return len(self.prompt_ids) + len(self.token_ids)


class Tokenizer(Protocol):
    """From text to token ids and back. It is in this process, wherever its engine is."""

    def encode(self, text: str) -> TokenIds:
        """The tokens of a prompt, special tokens included."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text for a person to read, special tokens included."""
        ...
