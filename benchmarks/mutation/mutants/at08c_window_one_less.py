"""The window of local layers counts one token less than it should, in masks and caches alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import change_window
from mutation import Mutant

__all__ = ["WindowOneLess"]


@dataclass(frozen=True)
class WindowOneLess(Mutant):
    """One key too few for every query beyond the window."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT08 huggingface/transformers#35924 (off by one)"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-gemma",)
    needs: ClassVar = ("window",)

    def change(self, model: Any) -> None:
        """Generate and score with a window of one token less."""
        change_window(model, by=-1)
