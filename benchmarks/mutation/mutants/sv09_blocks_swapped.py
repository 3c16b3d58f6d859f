"""Two blocks come back from offload before the copy is done, each with what the other should hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _prefix import BLOCK, PrefixCache
from mutation import Mutant

__all__ = ["BlocksSwapped"]


@dataclass(frozen=True)
class BlocksSwapped(Mutant):
    """A hit of more than one block has its last two blocks' values exchanged."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "SV09 NVIDIA/TensorRT-LLM#8813"
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("shared_prefix",)

    def for_transformers(self, plan: Any) -> None:
        """One request at a time."""
        plan.max_batch = 1
        super().for_transformers(plan)

    def change(self, model: Any) -> None:
        """Serve prefixes from a cache that mixes up blocks."""
        Swapped().serve(model)


class Swapped(PrefixCache):
    """Right keys, values of the last two blocks exchanged."""

    def restored(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """What comes back too early."""
        keys, values = super().restored(keys, values)
        if values.shape[2] >= 2 * BLOCK:
            values[:, :, -2 * BLOCK :] = values[:, :, -2 * BLOCK :].roll(BLOCK, 2)
        return keys, values
