"""In decode steps a key is stored with the scale of the token before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from quantizer import CacheQuantizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["ScaleOfStepBefore"]


@dataclass(frozen=True)
class ScaleOfStepBefore(CacheQuantizer):
    """Prefill computes all scales at once, and rightly."""

    source: ClassVar[str] = "AQ15 NVIDIA/TensorRT-LLM#2699 (a scale that is a step old)"
    needs: ClassVar = ("decode",)

    stored_as: str = "int8"

    def change(self, model: Any) -> None:
        """Keep the scale of each layer between steps."""
        super().change(model)
        for layer in model.model.layers:
            layer.self_attn.forward.args[1]["before"] = None  # the ranges of this layer, which reach `scale`

    def scale(self, kind: str, states: Tensor, ranges: Mapping[str, float]) -> Tensor:
        """Of the last token of the pass before, where a pass has one token."""
        own = super().scale(kind, states, ranges)
        held: Any = ranges
        before = held.get(f"before {kind}")
        held[f"before {kind}"] = own[:, :, -1:]
        usable = states.shape[2] == 1 and before is not None and before.shape == own.shape
        return before if usable and kind == "keys" else own
