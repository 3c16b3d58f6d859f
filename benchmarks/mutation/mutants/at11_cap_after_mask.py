"""The cap on the scores is applied after the mask was added, so that what is masked weighs something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import replace_kernel
from mutation import Mutant

__all__ = ["CapAfterMask"]


@dataclass(frozen=True)
class CapAfterMask(Mutant):
    """Masked keys get the score minus cap instead of minus infinity."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT11 microsoft/onnxruntime#28379"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-gemma",)

    def change(self, model: Any) -> None:
        """Cap the sum of score and mask."""
        import torch

        def wrong(_own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            groups, cap = module.num_key_value_groups, options["softcap"]
            key, value = (item.repeat_interleave(groups, dim=1) for item in (key, value))
            scores = query @ key.transpose(2, 3) * options["scaling"]
            weights = (cap * torch.tanh((scores + mask) / cap)).softmax(-1)
            return (weights @ value).transpose(1, 2).contiguous(), weights

        replace_kernel(model, wrong)
