"""Token ids that a checkpoint names, and whether its model has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import ModelError
from pytest_llmopt.core.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.tokens import TokenIds


def refuse_no_tokens(tokenizer: Any, name: str) -> None:
    """Accept a tokenizer that has tokens for a text.

    Raises:
        ModelError: it makes none of it, or has special tokens only.
    """
    ids, own = tokenizer("a text")["input_ids"], len(tokenizer.get_vocab()) - len(tokenizer.added_tokens_decoder)
    if not ids or not own:
        msg = f"the tokenizer of {quoted(name)} has no tokens for a text; copy the one that the model was trained with"
        raise ModelError(msg)


def refuse_other_tokens(tokenizer: Any, model: Any, name: str) -> None:
    """Accept a tokenizer of which every token has a row in the embedding.

    Raises:
        ModelError: the embedding is too short; names the last token and its id.
    """
    embedding = model.get_input_embeddings()
    rows = getattr(embedding, "num_embeddings", None) or getattr(model.config.get_text_config(), "vocab_size", None)
    last = max(tokenizer.get_vocab().items(), key=lambda item: int(item[1]), default=("", -1))
    if isinstance(rows, int) and last[1] >= rows:
        msg = (
            f"the tokenizer of {quoted(name)} goes up to token {last[1]} ({quoted(last[0])}), and the embedding of the "
            f"model has {rows} rows; copy the tokenizer that it was trained with, or resize_token_embeddings and save"
        )
        raise ModelError(msg)


def ends_of(model: Any, name: str) -> frozenset[int]:
    """The tokens that end a generation, from the generation config of a model.

    Raises:
        ModelError: one of them is no token of the model.
    """
    stated = model.generation_config.eos_token_id
    ends = [stated] if not isinstance(stated, (list, tuple, set, frozenset)) else list(stated)
    head = model.get_output_embeddings()
    rows = getattr(head, "out_features", None) or getattr(model.config.get_text_config(), "vocab_size", None)
    for end in ends:
        if end is not None and not (type(end) is int and 0 <= end < (rows or end + 1)):
            msg = (
                f"the generation config of {quoted(name)} says eos_token_id={stated!r}, and {end!r} is none of its "
                f"{rows} tokens; correct generation_config.json, or copy the one that came with the weights"
            )
            raise ModelError(msg)
    return frozenset(end for end in ends if end is not None)


def encode(tokenizer: Any, text: str) -> TokenIds:
    """The tokens of a text, with the special tokens that the tokenizer adds."""
    return tuple(tokenizer(text)["input_ids"])


@dataclass(frozen=True)
class LibraryTokenizer:
    """A tokenizer of Transformers behind the seam."""

    tokenizer: Any

    def encode(self, text: str) -> TokenIds:
        """The tokens of a text, with the special tokens that the tokenizer adds."""
        return encode(self.tokenizer, text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of some tokens, special tokens included."""
        return str(self.tokenizer.decode(list(token_ids)))
