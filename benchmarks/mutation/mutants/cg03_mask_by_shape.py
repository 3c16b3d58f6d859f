"""A compiled artifact is looked up by shapes alone, although it also depends on where the padding is."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["MaskByShape"]


@dataclass(frozen=True)
class MaskByShape(Mutant):
    """The first batch of a shape is right; later ones of that shape get its padding."""

    category: ClassVar[str] = "graph_capture"
    source: ClassVar[str] = "CG03 vllm-project/vllm#25093"
    base: ClassVar = (("decoding.compiled", {"backend": "aot_eager"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("padding", "second_call")

    def change(self, model: Any) -> None:
        """Remember the mask of the first call of each shape."""
        own = model.forward
        known: dict[Any, Any] = {}

        @functools.wraps(own)
        def forward(*args: Any, **kwargs: Any) -> Any:
            mask = kwargs.get("attention_mask")
            if mask is not None:
                kwargs["attention_mask"] = known.setdefault(mask.shape, mask)
            return own(*args, **kwargs)

        model.forward = forward
