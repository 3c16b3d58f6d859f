"""The candidate's tokenizer file lost its last merges, as a conversion with another version of the library does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from _checkpoint import LoadsAnother

if TYPE_CHECKING:
    from _checkpoint import Checkpoint

__all__ = ["TokenizerWithoutMerges"]


@dataclass(frozen=True)
class TokenizerWithoutMerges(LoadsAnother):
    """The same text becomes other ids, more of them; all are in the vocabulary."""

    source: ClassVar[str] = "CF tokenizer.json written by another version"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    needs: ClassVar = ("tokenizer",)

    def edit(self, checkpoint: Checkpoint) -> None:
        """Two thirds of them."""
        merges = checkpoint.tokenizer["model"]["merges"]
        del merges[len(merges) * 2 // 3 :]

    def for_transformers(self, plan: Any) -> None:
        """Tokenizer and weights from the copy."""
        super().for_transformers(plan)
        plan.model = plan.weights
