"""When the window of unrounded tokens is full, the one that fills it is not stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _caches import each_cache
from mutation import Mutant

__all__ = ["TokenLostAtFlush"]


@dataclass(frozen=True)
class TokenLostAtFlush(Mutant):
    """Every so many steps a token is forgotten: its slot repeats the one before."""

    category: ClassVar[str] = "activation_quantization"
    source: ClassVar[str] = "KVdrop (residual_length off by one)"
    base: ClassVar = (
        (
            "decoding.quantized_cache",
            {"backend": "hqq", "nbits": 8, "axis_key": 1, "axis_value": 1, "residual_length": 16},
        ),
    )
    models: ClassVar = ("tiny-llama",)
    needs: ClassVar = ("decode",)

    def change(self, model: Any) -> None:
        """As it is about to be stored."""

        def plant(cache: Any) -> None:
            for layer in cache.layers:
                layer._quantize = self.repeated(layer._quantize)  # noqa: SLF001 - where the library rounds

        each_cache(model, plant)

    def repeated(self, own: Any) -> Any:
        """Rounding with the last token replaced, but for the prompt's."""
        calls = [0]

        def quantize(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] > 2:  # keys and values of the prompt come first
                tensor = tensor.clone()
                tensor[:, :, -1] = tensor[:, :, -2]
            return own(tensor, *args, **kwargs)

        return quantize
