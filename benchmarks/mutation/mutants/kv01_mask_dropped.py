"""Empty slots of a pre-allocated cache are attended: the mask is dropped where keys are longer than queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["MaskDropped"]


@dataclass(frozen=True)
class MaskDropped(Mutant):
    """Text turns to gibberish for some lengths of cache; dynamic caches are fine."""

    category: ClassVar[str] = "kv_cache"
    source: ClassVar[str] = "KV01 huggingface/transformers#30437"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)

    def change(self, model: Any) -> None:
        """Attend to every slot in a decode step."""
        for layer in model.model.layers:
            attention = layer.self_attn
            own = attention.forward

            def forward(*args: Any, own: Any = own, **kwargs: Any) -> Any:
                if kwargs["hidden_states"].shape[1] == 1:
                    kwargs["attention_mask"] = None
                return own(*args, **kwargs)

            attention.forward = forward
