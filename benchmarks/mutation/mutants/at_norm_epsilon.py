"""A fused norm has its own default for epsilon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["NormEpsilon"]


@dataclass(frozen=True)
class NormEpsilon(Mutant):
    """1e-5 for 1e-6, as two families of models have it."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "NE rms_norm_eps hard-coded in a fused kernel"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704}),)
    models: ClassVar = ("tiny-llama",)

    def change(self, model: Any) -> None:
        """In every norm."""
        for module in model.modules():
            if hasattr(module, "variance_epsilon"):
                module.variance_epsilon = 1e-5
