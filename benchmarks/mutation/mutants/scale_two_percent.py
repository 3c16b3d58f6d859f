"""The softmax scale is two per cent too large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import replace_kernel
from mutation import Mutant

__all__ = ["ScaleTwoPercent"]


@dataclass(frozen=True)
class ScaleTwoPercent(Mutant):
    """No text looks wrong; every distribution is a little off."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "scale bugzoo section M"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")

    factor: float = 1.02

    def change(self, model: Any) -> None:
        """Scale scores by a little more than one over the root of the head's width."""

        def wrong(own: Any, *args: Any, scaling: float, **options: Any) -> Any:
            return own(*args, scaling=self.factor * scaling, **options)

        replace_kernel(model, wrong)
