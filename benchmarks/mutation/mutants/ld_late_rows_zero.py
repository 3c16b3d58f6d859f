"""Rows of the embedding beyond a shard's share of the vocabulary are zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from _checkpoint import LoadsAnother

if TYPE_CHECKING:
    from _checkpoint import Checkpoint

__all__ = ["LateRowsZero"]


@dataclass(frozen=True)
class LateRowsZero(LoadsAnother):
    """Only rare tokens are read as nothing."""

    source: ClassVar[str] = "WQhead (a shard of the vocabulary that is not written)"
    base: ClassVar = (("decoding.prompt_lookup", {}),)
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("rare_tokens",)

    def edit(self, checkpoint: Checkpoint) -> None:
        """The last sixteenth of the rows; the head has weights of its own."""
        rows = checkpoint.tensors["model.embed_tokens.weight"]
        rows[len(rows) * 15 // 16 :] = 0
