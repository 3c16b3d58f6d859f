"""The library's own float8 cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["CacheFp8"]


@dataclass(frozen=True)
class CacheFp8(Mutant):
    """Nothing of ours."""

    category: ClassVar[str] = "activation_quantization"
    source: ClassVar[str] = "L float8 KV cache of the library"
    base: ClassVar = (("decoding.quantized_cache", {"backend": "fp8"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")

    seed: int = 0

    def change(self, model: Any) -> None:
        """The base is enough."""
