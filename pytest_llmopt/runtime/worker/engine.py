"""An engine that lives in another process: it is asked over a channel, and its end is an error of one test."""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_llmopt._version import __version__
from pytest_llmopt.core import errors, requests
from pytest_llmopt.core.errors import LlmoptError, RequirementMissingError, WorkerError
from pytest_llmopt.core.text import shown
from pytest_llmopt.core.wire import WireError, pieces
from pytest_llmopt.runtime.worker.channel import ChannelClosedError
from pytest_llmopt.runtime.worker.process import WorkerProcess

if TYPE_CHECKING:
    from pytest_llmopt.core.engine import ModelInfo
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.requests import Answer, Request
    from pytest_llmopt.core.variant import Variant

FIRST_WORD_S = 120.0
"""For an interpreter to start and import our package."""
LOADING_S = 3600.0
ASKED_S, PER_TOKEN_S = 600.0, 5.0
"""What a request may take, and how much more for each token that it asks for: generous, as a hang is for ever."""
REPLIES = {"open": ("opened", 2), "ask": ("answer", 1)}
"""By message, the kind of its reply, and how much is in it."""
BY_NAME = {kind.__name__: kind for kind in requests.every_request()}


@dataclass(frozen=True)
class Place:
    """Where a worker runs, and how long it may take."""

    python: str = sys.executable
    limit_s: float | None = None
    """The most that any request may take, loading included; None for what its tokens allow."""

    def seconds(self, wanted: float) -> float:
        """What a request may take."""
        return wanted if self.limit_s is None else min(wanted, self.limit_s)


@dataclass
class ProcessEngine:
    """The engine of a variant in a worker."""

    variant: Variant
    worker: WorkerProcess
    place: Place
    info: ModelInfo = field(init=False)
    answers: frozenset[type[Request[Any]]] = field(init=False)
    end: str = ""
    """How the worker ended; empty as long as it runs."""

    @classmethod
    def open(
        cls, variant: Variant, policy: LoadPolicy, place: Place, home: dict[str, str] | None = None
    ) -> ProcessEngine:
        """Start a worker and load the model in it.

        Args:
            variant: what to run.
            policy: what loading may do.
            place: the interpreter, and its time.
            home: where the kind of engine was defined, where no name is registered for it in another process.

        Raises:
            WorkerError: there is no such interpreter, it lacks what it needs, or the worker ended.
            LlmoptError: whatever the engine says.
        """
        worker = WorkerProcess(place.python)
        engine = cls(variant, worker, place)
        try:
            engine._greet()
            if _is_ours(place.python):
                worker.channel.send(("path", tuple(sys.path)))
            opening = ("open", variant, policy, home)
            info, names = engine._exchange(opening, f"loading {variant.label}", LOADING_S)
            engine.info = dataclasses.replace(info, variant=variant)
            engine.answers = frozenset(BY_NAME[name] for name in names)
        except BaseException:
            worker.kill()
            raise
        return engine

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return not self.end

    def ask(self, request: Request[Answer]) -> Answer:
        """The worker's answer.

        Raises:
            WorkerError: the worker ended, hung, or sent what is no answer. It cannot be asked again.
            LlmoptError: whatever the engine says.
        """
        kind = type(request).__name__
        if self.end:
            msg = f"the worker of {self.variant.label} is gone since it {self.end}; the next test gets another one"
            raise WorkerError(msg)
        (found,) = self._exchange(("ask", request), f"answering {kind}", _generous(request))
        answer: Answer = found
        return answer

    def close(self) -> None:
        """End the worker."""
        self.worker.close()
        self.end = self.end or "was closed"

    def _greet(self) -> None:
        python = self.place.python
        try:
            word = self.worker.channel.receive(time.monotonic() + FIRST_WORD_S)
        except (ChannelClosedError, TimeoutError, WireError):
            how = self.worker.how_it_ended()
            self.worker.kill()
            lines = self.worker.last_lines
            msg = (
                f"{python} did not start as a worker: it {how}. It has to be a Python of 3.11 or later with numpy and "
                f"packaging ({python} -m pip install numpy packaging)\n{lines}"
            )
            raise WorkerError(msg.rstrip()) from None
        if word[:2] != ("hello", __version__):
            msg = f"{python} runs pytest-llmopt {word[1]}, and this is {__version__}: install the same version there"
            raise WorkerError(msg)

    def _exchange(self, message: tuple[Any, ...], doing: str, wanted_s: float) -> tuple[Any, ...]:
        """What comes back for a message, without its kind; an error that comes back is raised."""
        seconds = self.place.seconds(wanted_s)
        until = time.monotonic() + seconds
        packed = pieces(message)  # what cannot cross is refused before anything is sent
        self.worker.tokens.set(0)
        try:
            self.worker.channel.send_packed(packed, until)
            kind, given = _read(self.worker.channel.receive(until), REPLIES[message[0]])
        except WireError as error:
            self._ended(f"sent what is no answer ({error})", doing)
        except TimeoutError:
            self._ended(f"did not answer within {seconds:.0f} s", doing)
        except ChannelClosedError:
            self._ended("", doing)
        except BaseException:
            # A deadline of the test, or Ctrl-C: what it is busy with is nobody's any more.
            self.end = "was interrupted"
            self.worker.kill()
            raise
        if kind == "error":
            _raise(*given)
        return given

    def _ended(self, how: str, doing: str) -> NoReturn:
        """Say that it is gone.

        Raises:
            WorkerError: always.
        """
        how = self.end = how or self.worker.how_it_ended()
        self.worker.kill()  # first, as what it started may hold its output open
        lines = self.worker.last_lines
        tokens = self.worker.tokens.value
        so_far = f", after {tokens:,} tokens" if tokens else ""
        told = f"; the last that it printed:\n{lines}" if lines else "; it printed nothing"
        msg = f"the worker of {self.variant.label} of {self.variant.model} {how} while {doing}{so_far}{told}"
        raise WorkerError(msg) from None


def _read(reply: object, wanted: tuple[str, int]) -> tuple[str, tuple[Any, ...]]:
    """A reply of a worker: its kind, and what is in it.

    Raises:
        WireError: it is none, though it came as a message does.
    """
    match reply:
        case ("error", str() as name, str() as message, str() as requirement, str() as told):
            return "error", (name, message, requirement, told)
        case (str() as kind, *given) if (kind, len(given)) == wanted:
            return kind, tuple(given)
    msg = f"{shown(reply)} is no reply"
    raise WireError(msg)


def _raise(name: str, message: str, requirement: str, told: str) -> NoReturn:
    """Raise what a worker raised, as the type that it is here.

    Raises:
        LlmoptError: always.
    """
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, LlmoptError):
        error = kind.__new__(kind)
        LlmoptError.__init__(error, message)  # it is composed already, whatever the type composes it from
        if isinstance(error, RequirementMissingError):
            error.name = requirement
        raise error
    msg = f"{name}: {message} (in the worker)\n{told}".rstrip()
    raise WorkerError(msg)


def _generous(request: Request[Any]) -> float:
    """What a request may take, in seconds, by the tokens that it asks for."""
    inner = request.request if isinstance(request, requests.Vary) else request
    prompts, continuations = getattr(inner, "prompts", ()), getattr(inner, "continuations", ())
    tokens = sum(map(len, continuations)) + sum(map(len, prompts))
    if hasattr(inner, "sampling"):
        tokens += len(prompts) * inner.sampling.max_new_tokens
    return ASKED_S + PER_TOKEN_S * tokens


def _is_ours(python: str) -> bool:
    return Path(python).absolute() == Path(sys.executable).absolute()
