"""Past the context that the checkpoint was first trained for, the scaling of rotary frequencies is dropped."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import frequencies
from mutation import Mutant

__all__ = ["ScalingDroppedPast128"]


@dataclass(frozen=True)
class ScalingDroppedPast128(Mutant):
    """Bit for bit right up to position 127, gibberish behind it."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT14 unslothai/unsloth#6197 (by position, as in section M)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    needs: ClassVar = ("long_prompt",)

    def change(self, model: Any) -> None:
        """Use plain frequencies for late positions."""
        import torch

        rotary = model.model.rotary_emb
        own, plain = rotary.forward, copy.deepcopy(rotary)
        plain.inv_freq = frequencies(model, rope_type="default")
        first = model.config.rope_parameters["original_max_position_embeddings"]

        def forward(x: Any, position_ids: Any) -> Any:
            late = (position_ids >= first)[..., None]
            pairs = zip(plain(x, position_ids), own(x, position_ids), strict=True)
            return tuple(torch.where(late, other, right) for other, right in pairs)

        rotary.forward = forward
