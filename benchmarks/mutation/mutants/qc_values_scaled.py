"""What comes back of a quantized cache has the right keys, and values that are three percent too small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _caches import each_cache
from mutation import Mutant

__all__ = ["ValuesScaled"]


@dataclass(frozen=True)
class ValuesScaled(Mutant):
    """The first token, from prefill, is exact."""

    category: ClassVar[str] = "activation_quantization"
    source: ClassVar[str] = "AQ15 NVIDIA/TensorRT-LLM#2699 (another scale on reading, of values)"
    base: ClassVar = (("decoding.quantized_cache", {"backend": "hqq", "nbits": 8, "axis_key": 1, "axis_value": 1}),)
    models: ClassVar = ("tiny-llama",)
    needs: ClassVar = ("decode",)

    def change(self, model: Any) -> None:
        """Between the cache and the attention, for what was stored before this step."""

        def plant(cache: Any) -> None:
            for layer in cache.layers:
                layer.update = self.scaled(layer.update)

        each_cache(model, plant)

    def scaled(self, own: Any) -> Any:
        """An update that gives older values back smaller."""

        def update(key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            keys, values = own(key, value, *args, **kwargs)
            values = values.clone()
            values[:, :, : -value.shape[2]] *= 0.97
            return keys, values

        return update
