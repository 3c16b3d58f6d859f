"""Captured sizes leave a gap, and steps of a size inside it run eagerly."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["DecodeRunsEagerly"]


@dataclass(frozen=True)
class DecodeRunsEagerly(Mutant):
    """The text is right and prefill is compiled; no decode step is."""

    category: ClassVar[str] = "graph_capture"
    source: ClassVar[str] = "CG10 vllm-project/vllm#53407"
    base: ClassVar = (("decoding.compiled", {"backend": "aot_eager"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("counters",)

    captured: tuple[int, ...] = (1, 2, 4, 16)

    def change(self, model: Any) -> None:
        """Compile for prefill and the captured numbers of rows only."""
        compiled, eager = model.forward, type(model).forward.__get__(model)

        @functools.wraps(eager)
        def forward(*args: Any, **kwargs: Any) -> Any:
            rows, length = kwargs["input_ids"].shape if "input_ids" in kwargs else args[0].shape
            return (compiled if length > 1 or rows in self.captured else eager)(*args, **kwargs)

        model.forward = forward
