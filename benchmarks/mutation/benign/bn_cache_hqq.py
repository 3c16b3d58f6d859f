"""The library's own 8-bit cache with a short window of unrounded tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["CacheHqq"]


@dataclass(frozen=True)
class CacheHqq(Mutant):
    """Nothing of ours."""

    category: ClassVar[str] = "activation_quantization"
    source: ClassVar[str] = "L 8-bit KV cache of the library"
    base: ClassVar = (
        (
            "decoding.quantized_cache",
            {"backend": "hqq", "nbits": 8, "axis_key": 1, "axis_value": 1, "residual_length": 16},
        ),
    )

    seed: int = 0

    def change(self, model: Any) -> None:
        """The base is enough."""
