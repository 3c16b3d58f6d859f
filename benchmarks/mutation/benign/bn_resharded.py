"""The same checkpoint in three shards, its tied head written out, the end token as a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from _checkpoint import LoadsAnother

if TYPE_CHECKING:
    from _checkpoint import Checkpoint

__all__ = ["Resharded"]


@dataclass(frozen=True)
class Resharded(LoadsAnother):
    """Another way to store the same model."""

    source: ClassVar[str] = "BN11 (save_pretrained with another max_shard_size)"

    seed: int = 0

    def edit(self, checkpoint: Checkpoint) -> None:
        """Split it."""
        checkpoint.shards = 3
        checkpoint.tensors["lm_head.weight"] = checkpoint.tensors["model.embed_tokens.weight"].clone()
        checkpoint.generation["eos_token_id"] = [checkpoint.generation["eos_token_id"]]
