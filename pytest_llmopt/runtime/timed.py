"""An engine with a clock: what it and others have worked in a session."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pytest_llmopt.core.engine import EngineWrapper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.requests import Answer, Request


@dataclass
class Stopwatch:
    """Seconds that engines have worked: loading, generating, scoring."""

    seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add what happens inside."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


@dataclass(frozen=True)
class TimedEngine(EngineWrapper):
    """The engine that it wraps, with the time of every answer added to a stopwatch."""

    same_answers: ClassVar[bool] = True

    stopwatch: Stopwatch

    def ask(self, request: Request[Answer]) -> Answer:
        """The engine's answer."""
        with self.stopwatch.running():
            return self.engine.ask(request)
