"""One zero point of one group is two off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import WeightQuantizer

__all__ = ["OneZeroPoint"]


@dataclass(frozen=True)
class OneZeroPoint(WeightQuantizer):
    """32 weights of one output."""

    source: ClassVar[str] = "WQ01 vllm-project/vllm#26092 (one group)"
    models: ClassVar = ("tiny-qwen",)

    def change(self, model: Any) -> None:
        """In the projection that writes into the residual stream."""
        super().change(model)
        zeros = model.model.layers[2].mlp.down_proj.zeros
        zeros[17, 5] = zeros[17, 5] + 2 if zeros[17, 5] < 8 else zeros[17, 5] - 2
