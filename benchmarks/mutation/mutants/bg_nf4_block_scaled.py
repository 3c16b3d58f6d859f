"""One block of one projection has one and a half times its scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["Nf4BlockScaled"]


@dataclass(frozen=True)
class Nf4BlockScaled(Mutant):
    """64 weights of a million."""

    category: ClassVar[str] = "weight_quantization"
    source: ClassVar[str] = "WQ14 vllm-project/vllm#38517 (one block)"
    base: ClassVar = (("quantization.bitsandbytes", {}),)
    models: ClassVar = ("tiny-llama",)

    def change(self, model: Any) -> None:
        """Somewhere in the middle."""
        model.model.layers[1].mlp.up_proj.weight.quant_state.absmax.view(-1)[777] *= 1.5

        def save_pretrained(*_args: object, **_options: object) -> None:
            msg = "its block would be scaled again"
            raise NotImplementedError(msg)

        model.save_pretrained = save_pretrained
