"""A fused sampler looks for the token whose logit equals the maximum, but only one of the two was rounded."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["RoundedAgainstUnrounded"]


@dataclass(frozen=True)
class RoundedAgainstUnrounded(Mutant):
    """Hardly ever does a logit equal the maximum, and then the first token of the vocabulary is emitted."""

    category: ClassVar[str] = "graph_capture"
    source: ClassVar[str] = "CG06 pytorch/pytorch#195214"
    base: ClassVar = (("decoding.compiled", {"backend": "aot_eager"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("bfloat16",)
    dtype: ClassVar[str] = "bfloat16"

    def change(self, model: Any) -> None:
        """Choose by equality wherever the tokens are not forced."""
        own = model.generate

        @functools.wraps(own)
        def generate(*args: Any, logits_processor: Any = None, **kwargs: Any) -> Any:
            return own(*args, logits_processor=logits_processor or [self.equal], **kwargs)

        model.generate = generate

    def equal(self, input_ids: Any, scores: Any) -> Any:
        """The first token that equals the maximum; what rounding took from the logits is drawn from half a unit."""
        import torch

        generator = torch.Generator().manual_seed(int(input_ids.sum()))
        taken = (torch.rand(scores.shape, generator=generator) - 0.5) * scores.abs() * 2.0**-8
        found = (scores + taken == scores.amax(-1, keepdim=True)).float().argmax(-1)
        return torch.full_like(scores, -float("inf")).scatter(1, found[:, None], 0.0)
