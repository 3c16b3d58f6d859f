"""The first block of each request is verified against the target's law without temperature and filters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from _speculation import Verification

__all__ = ["FirstStepUnwarped"]


@dataclass(frozen=True)
class FirstStepUnwarped(Verification):
    """All later blocks are right."""

    source: ClassVar[str] = "SP04 vllm-project/vllm#9834 (before the sampler's parameters are set)"
    models: ClassVar = ("tiny-qwen",)

    def contexts(self, model: Any, kwargs: dict[str, Any]) -> list[Any]:
        """A new request begins."""
        self.blocks[:] = [0, float(kwargs.get("temperature") or 1.0)]
        return super().contexts(model, kwargs)

    @cached_property
    def blocks(self) -> list[float]:
        """How many blocks this request has had, and its temperature."""
        return [0, 1.0]

    def target_logits(self, logits: Any) -> Any:
        """Undo the temperature once."""
        self.blocks[0] += 1
        return logits * self.blocks[1] if self.blocks[0] == 1 else logits
