"""A silent loss: calibrated scales of the cache are loaded into a field that no kernel reads, so 1 is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from quantizer import CacheQuantizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["CacheScaleUnused"]

FACTOR = 2**8


@dataclass(frozen=True)
class CacheScaleUnused(CacheQuantizer):
    """Shows where keys are beyond 448, and the zoo's are not: they are made as large, and queries as small."""

    source: ClassVar[str] = "AQ03 sgl-project/sglang#20705"
    needs: ClassVar[tuple[str, ...]] = ("large_keys",)

    def change(self, model: Any) -> None:
        """The same model with large keys, exactly: a power of two goes from queries to keys."""
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.data /= FACTOR
            layer.self_attn.k_proj.weight.data *= FACTOR
        super().change(model)

        def save_pretrained(*_args: object, **_options: object) -> None:
            msg = "its keys would be enlarged again"
            raise NotImplementedError(msg)

        model.save_pretrained = save_pretrained

    def scale(self, kind: str, states: Tensor, ranges: Mapping[str, float]) -> Tensor:
        """What the field that is read was initialized to."""
        return torch.ones_like(super().scale(kind, states, ranges))
