"""The engine seam: one way to run a model, which answers requests, in this process or anywhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.requests import Answer, Request
    from pytest_llmopt.core.tokens import Tokenizer
    from pytest_llmopt.core.variant import Variant


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a loaded model without asking it anything."""

    variant: Variant
    """What it runs."""
    vocab_size: int
    """The number of entries of the output distribution."""
    dtype: str
    """That it computes in, such as `float32`."""
    eos_token_ids: frozenset[int] = frozenset()
    """The tokens that end a generation."""
    max_length: int | None = None
    """The longest sequence it can process, prompt and output together, or None when it does not know."""
    draft: Variant | None = None
    """The draft model that proposes tokens, where there is one."""


class Engine(Protocol):
    """One way to run a model. What wraps an engine (clock, memory of answers, worker, recorder) is an engine too."""

    @property
    def info(self) -> ModelInfo:
        """What is known of the model without asking it."""
        ...

    @property
    def answers(self) -> frozenset[type[Request[Any]]]:
        """The requests that it knows."""
        ...

    def ask(self, request: Request[Answer]) -> Answer:
        """The answer to a request.

        Raises:
            NotAnsweredError: it does not know such requests.
            RequestError: it cannot answer this one; and whatever the request says.
        """
        ...

    def close(self) -> None:
        """Free what it holds. Called once."""
        ...


@dataclass(frozen=True)
class EngineWrapper:
    """What wraps an engine, for `ask` to be written: all else is as the engine has it."""

    engine: Engine
    same_answers: ClassVar[bool] = False
    """Whether it only looks on, so that both are one engine to whoever compares two sides."""

    @property
    def info(self) -> ModelInfo:
        """Of the model."""
        return self.engine.info

    @property
    def answers(self) -> frozenset[type[Request[Any]]]:
        """The requests that the engine knows."""
        return self.engine.answers

    def ask(self, request: Request[Answer]) -> Answer:
        """The engine's answer."""
        return self.engine.ask(request)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()


def bare(engine: Engine) -> Engine:
    """The engine below all that only looks on."""
    while isinstance(engine, EngineWrapper) and engine.same_answers:
        engine = engine.engine
    return engine


class EngineKind(Protocol):
    """What a file of `engines/` offers: how an engine of that kind comes about."""

    @staticmethod
    def open(variant: Variant, policy: LoadPolicy) -> Engine:
        """Load the model of a variant.

        Raises:
            ModelError: the model cannot be found or loaded; carries the library's own message.
            RequirementMissingError: the model lacks what an optimization needs.
        """
        ...

    @staticmethod
    def tokenizer(variant: Variant, policy: LoadPolicy) -> Tokenizer:
        """What turns text into the tokens of that model; in this process, also where the engine is not.

        Raises:
            ModelError: it cannot be found or loaded; carries the library's own message.
        """
        ...


@runtime_checkable
class Prechecks(Protocol):
    """An engine whose class can tell, in no time, that a variant will not load: before anything heavy is imported."""

    @staticmethod
    def precheck(variant: Variant, policy: LoadPolicy) -> None:
        """Accept what may load; asked of the class, of every variant of a run before its first test.

        Raises:
            ModelError: the model cannot be loaded, as its files show.
            NotHereError: it is not on this machine, unless a fixture makes it.
            OptionError: a device or backend that does not exist.
            RequirementMissingError: a device that is not there, or a draft that nobody named.
        """
        ...
