"""The dropout of an adapter stays on after loading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from mutation import Mutant

__all__ = ["AdapterDropout"]


@dataclass(frozen=True)
class AdapterDropout(Mutant):
    """The same prompt gives other probabilities each time, unless the generator is seeded."""

    category: ClassVar[str] = "loading"
    source: ClassVar[str] = "DR PeftModel left in training mode"
    base: ClassVar = (("adapters.lora", {"adapter": "tiny-llama-lora"}),)
    against: ClassVar = (("adapters.lora", {"adapter": "tiny-llama-lora"}),)
    needs: ClassVar = ("repeat",)

    def change(self, model: Any) -> None:
        """Five percent, on the way into every adapter."""
        for module in model.modules():
            if hasattr(module, "lora_dropout"):
                for name in list(module.lora_dropout):
                    module.lora_dropout[name] = torch.nn.Dropout(0.05).train()
