"""What a worker is asked, whichever of its engines is meant: its end is told once, and is the end of all of them."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_llmopt._version import __version__
from pytest_llmopt.core import errors
from pytest_llmopt.core.errors import LlmoptError, RequirementMissingError, WorkerError
from pytest_llmopt.core.text import shown
from pytest_llmopt.core.wire import WireError, pieces
from pytest_llmopt.runtime.worker.channel import ChannelClosedError
from pytest_llmopt.runtime.worker.process import WorkerProcess

if TYPE_CHECKING:
    from pytest_llmopt.core.variant import Variant

FIRST_WORD_S = 120.0
"""For an interpreter to start and import our package."""
REPLIES = {"open": ("opened", 2), "ask": ("answer", 1), "close": ("closed", 0)}
"""By message, the kind of its reply, and how much is in it."""


@dataclass(frozen=True)
class WorkerPlace:
    """Where a worker runs, and how long it may take."""

    python: str = sys.executable
    limit_s: float | None = None
    """The most that any request may take, loading included; None for what its tokens allow."""

    def seconds(self, wanted: float) -> float:
        """What a request may take."""
        return wanted if self.limit_s is None else min(wanted, self.limit_s)


@dataclass
class Connection:
    """A worker that said its first word."""

    place: WorkerPlace
    worker: WorkerProcess
    end: str = ""
    """How the worker ended; empty as long as it runs."""
    engines: set[int] = field(default_factory=set)
    """The numbers of those that are open in it."""
    _opened: int = 0

    @classmethod
    def start(cls, place: WorkerPlace) -> Connection:
        """Start a worker.

        Raises:
            WorkerError: there is no such interpreter, it lacks what it needs, or the worker ended.
        """
        connection = cls(place, WorkerProcess(place.python))
        try:
            connection._greet()
            if Path(place.python).absolute() == Path(sys.executable).absolute():
                connection.worker.channel.send(("path", tuple(sys.path)))
        except BaseException:
            connection.worker.kill()
            raise
        return connection

    def new_number(self) -> int:
        """A number for another engine."""
        self._opened += 1
        self.engines.add(self._opened)
        return self._opened

    def exchange(self, message: tuple[Any, ...], of: Variant, doing: str, wanted_s: float) -> tuple[Any, ...]:
        """What comes back for a message, without its kind; an error that comes back is raised.

        Args:
            message: its kind, the number of an engine, and what the kind wants.
            of: what that engine runs.
            doing: in words, for what may go wrong.
            wanted_s: seconds that it may take.

        Raises:
            WorkerError: the worker ended, hung, or sent what is no answer. It cannot be asked again.
            LlmoptError: whatever the engine says.
        """
        if self.end:
            msg = f"the worker of {of.label} is gone since it {self.end}; the next test gets another one"
            raise WorkerError(msg)
        seconds = self.place.seconds(wanted_s)
        until = time.monotonic() + seconds
        packed = pieces(message)  # what cannot cross is refused before anything is sent
        self.worker.tokens.set(0)
        try:
            self.worker.channel.send_packed(packed, until)
            kind, given = _read(self.worker.channel.receive(until), REPLIES[message[0]])
        except WireError as error:
            self._ended(f"sent what is no answer ({error})", of, doing)
        except TimeoutError:
            self._ended(f"did not answer within {seconds:.0f} s", of, doing)
        except ChannelClosedError:
            self._ended("", of, doing)
        except BaseException:
            # A deadline of the test, or Ctrl-C: what it is busy with is nobody's any more.
            self.end = "was interrupted"
            self.worker.kill()
            raise
        if kind == "error":
            _raise(*given)
        return given

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

    def _ended(self, how: str, of: Variant, doing: str) -> NoReturn:
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
        msg = f"the worker of {of.label} of {of.model} {how} while {doing}{so_far}{told}"
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
