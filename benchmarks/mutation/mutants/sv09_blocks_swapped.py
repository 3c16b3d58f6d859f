"""Two blocks come back from offload before the copy is done, each with what the other should hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _prefix import BLOCK, PrefixCache, ServesPrefixes

__all__ = ["BlocksSwapped"]


@dataclass(frozen=True)
class BlocksSwapped(ServesPrefixes):
    """A hit of more than one block has its last two blocks' values exchanged."""

    source: ClassVar[str] = "SV09 NVIDIA/TensorRT-LLM#8813"
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("shared_prefix",)

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
