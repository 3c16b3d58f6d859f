"""The mask is made anew from the ids: all that looks like padding is hidden, and padding is the end token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from mutation import Mutant

__all__ = ["MaskFromIds"]


@dataclass(frozen=True)
class MaskFromIds(Mutant):
    """Ends of turns inside of a prompt are not seen."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "EO pad_token = eos_token"
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("eos_in_prompt",)

    def change(self, model: Any) -> None:
        """Wherever a pass is given a mask."""
        end = model.config.eos_token_id

        def look(_body: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
            if ids is not None and mask is None and ids.shape[1] > 1:  # dropped where nothing is padded
                mask = torch.ones_like(ids)
            if ids is not None and getattr(mask, "ndim", 0) == 2:
                mask = mask.clone()
                mask[:, -ids.shape[1] :] *= ids != end
                kwargs["attention_mask"] = mask
            return args, kwargs

        model.model.register_forward_pre_hook(look, with_kwargs=True)
