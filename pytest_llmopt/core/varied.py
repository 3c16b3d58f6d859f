"""An engine that computes the same function by other arithmetic: it wraps each request that is put to another one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.engine import EngineWrapper
from pytest_llmopt.core.requests import Vary

if TYPE_CHECKING:
    from pytest_llmopt.core.engine import ModelInfo
    from pytest_llmopt.core.requests import Answer, Request

SIXTEEN_BITS = frozenset({"bfloat16", "float16"})


@dataclass(frozen=True)
class VariedEngine(EngineWrapper):
    """The engine that it wraps, with every request asked as a `Vary` of it."""

    change: str
    """As `Vary` has it."""
    seed: int = 0

    @property
    def info(self) -> ModelInfo:
        """As before, but for the dtype where that is what is varied."""
        info = self.engine.info
        return replace(info, dtype="float32") if self.change == "float32" and info.dtype in SIXTEEN_BITS else info

    @property
    def answers(self) -> frozenset[type[Request[Any]]]:
        """What the engine answers, where it can vary at all."""
        return self.engine.answers if Vary in self.engine.answers else frozenset()

    def ask(self, request: Request[Answer]) -> Answer:
        """The answer by other arithmetic."""
        return self.engine.ask(Vary(request, self.change, self.seed))
