"""One of three shards never arrived, and the index was written from those that did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from _checkpoint import LoadsAnother

if TYPE_CHECKING:
    from _checkpoint import Checkpoint

__all__ = ["ShardLost"]


@dataclass(frozen=True)
class ShardLost(LoadsAnother):
    """A third of the tensors is random."""

    source: ClassVar[str] = "EX06 (an upload that stopped; the index lists what is there)"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    needs: ClassVar = ("missing_tensors",)

    def edit(self, checkpoint: Checkpoint) -> None:
        """Keep two of three, in two shards."""
        checkpoint.tensors = dict(list(checkpoint.tensors.items())[: len(checkpoint.tensors) * 2 // 3])
        checkpoint.shards = 2
