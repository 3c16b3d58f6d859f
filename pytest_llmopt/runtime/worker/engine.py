"""An engine that lives in another process: it is asked over a connection, and its end is an error of one test."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core import requests
from pytest_llmopt.runtime.worker.connection import Connection, WorkerPlace

if TYPE_CHECKING:
    from pytest_llmopt.core.engine import ModelInfo
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.requests import Answer, Request
    from pytest_llmopt.core.variant import Variant

LOADING_S = 3600.0
CLOSING_S = 60.0
ASKED_S, PER_TOKEN_S = 600.0, 5.0
"""What a request may take, and how much more for each token that it asks for: generous, as a hang is for ever."""
BY_NAME = {kind.__name__: kind for kind in requests.every_request()}


@dataclass
class ProcessEngine:
    """The engine of a variant in a worker."""

    variant: Variant
    connection: Connection
    number: int
    """Its own among the engines of that worker."""
    info: ModelInfo = field(init=False)
    answers: frozenset[type[Request[Any]]] = field(init=False)

    @classmethod
    def open(
        cls,
        variant: Variant,
        policy: LoadPolicy,
        place: WorkerPlace,
        home: dict[str, str] | None = None,
        beside: ProcessEngine | None = None,
    ) -> ProcessEngine:
        """Load the model in a worker.

        Args:
            variant: what to run.
            policy: what loading may do.
            place: the interpreter, and its time.
            home: where the kind of engine was defined, where no name is registered for it in another process.
            beside: another engine whose worker it shares, as both would share this process; None starts a worker.

        Raises:
            WorkerError: there is no such interpreter, it lacks what it needs, or the worker ended.
            LlmoptError: whatever the engine says.
        """
        connection = Connection.start(place) if beside is None else beside.connection
        engine = cls(variant, connection, connection.new_number())
        try:
            opening = ("open", engine.number, variant, policy, home)
            info, names = connection.exchange(opening, variant, f"loading {variant.label}", LOADING_S)
            engine.info = dataclasses.replace(info, variant=variant)
            engine.answers = frozenset(BY_NAME[name] for name in names if name in BY_NAME)
        except BaseException:
            connection.engines.discard(engine.number)
            if not connection.engines:
                connection.worker.kill()
            raise
        return engine

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return not self.connection.end and self.connection.worker.alive

    def ask(self, request: Request[Answer]) -> Answer:
        """The worker's answer.

        Raises:
            WorkerError: the worker ended, hung, or sent what is no answer. It cannot be asked again.
            LlmoptError: whatever the engine says.
        """
        doing = f"answering {type(request).__name__}"
        asking = ("ask", self.number, request)
        (found,) = self.connection.exchange(asking, self.variant, doing, _generous(request))
        answer: Answer = found
        return answer

    def close(self) -> None:
        """Close it, and end the worker with its last engine.

        Raises:
            WorkerError: the worker, which has other engines, ended.
        """
        self.connection.engines.discard(self.number)
        if not self.connection.engines:
            self.connection.close()
        elif self.alive:
            self.connection.exchange(("close", self.number), self.variant, "closing", CLOSING_S)


def _generous(request: Request[Any]) -> float:
    """What a request may take, in seconds, by the tokens that it asks for."""
    inner = request.request if isinstance(request, requests.Vary) else request
    prompts, continuations = getattr(inner, "prompts", ()), getattr(inner, "continuations", ())
    tokens = sum(map(len, continuations)) + sum(map(len, prompts))
    if hasattr(inner, "sampling"):
        tokens += len(prompts) * inner.sampling.max_new_tokens
    return ASKED_S + PER_TOKEN_S * tokens
