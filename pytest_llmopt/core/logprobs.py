"""`TopLogprobs`: the one currency of evidence, the same from full logits, a server's top-k or a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from pytest_llmopt.core.errors import EmptySampleError

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatArray: TypeAlias = npt.NDArray[np.floating]
IntArray: TypeAlias = npt.NDArray[np.integer]
BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TopLogprobs:
    """Per position, what a model thought of the token that was there and of its own top k tokens, in nats."""

    token_ids: IntArray
    """The token that was actually there: `[tokens]`."""
    token_logprobs: FloatArray
    """Its log-probability: `[tokens]`."""
    top_ids: IntArray
    """The k most probable tokens, most probable first: `[tokens, k]`."""
    top_logprobs: FloatArray
    """Their log-probabilities: `[tokens, k]`."""
    vocab_size: int

    def __post_init__(self) -> None:
        """Refuse arrays whose shapes do not belong together."""
        tokens, k = self.top_ids.shape
        shapes = (self.token_ids.shape, self.token_logprobs.shape, self.top_logprobs.shape)
        if shapes != ((tokens,), (tokens,), (tokens, k)):
            msg = f"shapes {shapes} do not fit top_ids of {tokens} tokens x {k}"
            raise ValueError(msg)

    def __len__(self) -> int:
        """The number of positions."""
        return len(self.token_ids)

    def __getitem__(self, positions: slice | BoolArray) -> TopLogprobs:
        """The same for some of the positions."""
        return TopLogprobs(
            self.token_ids[positions],
            self.token_logprobs[positions],
            self.top_ids[positions],
            self.top_logprobs[positions],
            self.vocab_size,
        )

    @property
    def k(self) -> int:
        """How many tokens are known at each position."""
        return int(self.top_ids.shape[1])

    @property
    def nbytes(self) -> int:
        """The memory that its arrays hold, in bytes."""
        return sum(own.nbytes for own in (self.token_ids, self.token_logprobs, self.top_ids, self.top_logprobs))

    @property
    def is_complete(self) -> bool:
        """Whether the whole vocabulary is known, so that statistics are exact."""
        return self.k == self.vocab_size

    @property
    def tail_mass(self) -> FloatArray:
        """The probability of everything outside the top k: `[tokens]`. Zero when k is the vocabulary."""
        if self.is_complete:
            return np.zeros(len(self))
        return np.clip(1.0 - np.exp(self.top_logprobs.astype(np.float64)).sum(axis=1), 0.0, 1.0)

    @property
    def is_finite(self) -> BoolArray:
        """Where the position holds a usable distribution: no NaN, no +inf, a finite best token: `[tokens]`."""
        top = self.top_logprobs
        return np.isfinite(top[:, 0]) & ~np.isnan(top).any(axis=1) & ~np.isnan(self.token_logprobs)

    def lookup(self, ids: IntArray) -> FloatArray:
        """Log-probabilities of given tokens `[tokens, m]`, NaN where one is outside the top k: `[tokens, m]`."""
        rows = np.arange(len(self))[:, None]
        if self.is_complete:
            dense = np.empty((len(self), self.vocab_size))
            dense[rows, self.top_ids] = self.top_logprobs
            return dense[rows, ids]
        keys = (rows * self.vocab_size + self.top_ids).ravel()
        order = np.argsort(keys)
        wanted = (rows * self.vocab_size + ids).ravel()
        place = np.clip(np.searchsorted(keys, wanted, sorter=order), 0, len(keys) - 1)
        hit = (keys[order[place]] == wanted) & ((ids >= 0) & (ids < self.vocab_size)).ravel()
        found = np.where(hit, self.top_logprobs.ravel()[order[place]].astype(np.float64), np.nan)
        return found.reshape(ids.shape)

    @classmethod
    def from_logprobs(cls, token_ids: IntArray, logprobs: FloatArray, k: int | None = None) -> TopLogprobs:
        """Evidence from log-probabilities over the whole vocabulary, `[tokens, vocabulary]`; k=None keeps all."""
        vocab_size = logprobs.shape[1]
        order = np.argsort(-logprobs, axis=1, kind="stable")[:, : k or vocab_size]
        return cls(
            token_ids=np.asarray(token_ids),
            token_logprobs=np.take_along_axis(logprobs, np.asarray(token_ids)[:, None], axis=1)[:, 0],
            top_ids=order,
            top_logprobs=np.take_along_axis(logprobs, order, axis=1),
            vocab_size=vocab_size,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[TopLogprobs]) -> TopLogprobs:
        """The positions of several sequences one after the other.

        Raises:
            EmptySampleError: there is no part.
        """
        if not parts:
            msg = "no log-probabilities to concatenate"
            raise EmptySampleError(msg)
        return cls(
            np.concatenate([part.token_ids for part in parts]),
            np.concatenate([part.token_logprobs for part in parts]),
            np.concatenate([part.top_ids for part in parts]),
            np.concatenate([part.top_logprobs for part in parts]),
            parts[0].vocab_size,
        )
