"""An adapter merged into the weights, against the adapter beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["LoraMerged"]


@dataclass(frozen=True)
class LoraMerged(Mutant):
    """The same function; saving and loading must not merge it twice."""

    category: ClassVar[str] = "loading"
    source: ClassVar[str] = "BN11 merge_and_unload"
    base: ClassVar = (("adapters.lora", {"adapter": "tiny-llama-lora", "merged": True}),)
    against: ClassVar = (("adapters.lora", {"adapter": "tiny-llama-lora"}),)

    seed: int = 0

    def change(self, model: Any) -> None:
        """Nothing more."""
