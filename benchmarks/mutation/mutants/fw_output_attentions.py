"""When attention weights are asked for, another kernel runs, without the cap on the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["CapMissingWithAttentions"]


@dataclass(frozen=True)
class CapMissingWithAttentions(Mutant):
    """Whoever looks at attention sees another model."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT02 huggingface/transformers#30652 (output_attentions takes another path)"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-gemma",)
    needs: ClassVar = ("output_attentions",)

    def change(self, model: Any) -> None:
        """Take the cap away for such a pass."""
        own = model.model.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if not kwargs.get("output_attentions"):
                return own(*args, **kwargs)
            attentions = [layer.self_attn for layer in model.model.layers]
            caps = [attention.attn_logit_softcapping for attention in attentions]
            for attention in attentions:
                attention.attn_logit_softcapping = None
            try:
                return own(*args, **kwargs)
            finally:
                for attention, cap in zip(attentions, caps, strict=True):
                    attention.attn_logit_softcapping = cap

        model.model.forward = forward
