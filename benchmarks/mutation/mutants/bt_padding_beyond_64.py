"""A mask is built for at most 64 places of padding; what is padded more attends to the rest of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["PaddingBeyond64"]


@dataclass(frozen=True)
class PaddingBeyond64(Mutant):
    """Short prompts beside long ones."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "BPpad bugzoo section M (beyond a block)"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-gemma", "tiny-llama")
    needs: ClassVar = ("padding of 65",)

    def change(self, model: Any) -> None:
        """Where a pass is given a mask."""

        def look(_body: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            mask = kwargs.get("attention_mask")
            if getattr(mask, "ndim", 0) == 2 and mask.shape[1] > 64:
                mask = mask.clone()
                mask[:, 64:] = 1
                kwargs["attention_mask"] = mask
            return args, kwargs

        model.model.register_forward_pre_hook(look, with_kwargs=True)
