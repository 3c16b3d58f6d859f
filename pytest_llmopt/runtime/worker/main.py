"""What runs in the process of engines: it opens them, answers, and ends with the process that started it.

Needs NumPy, packaging and what the engine itself needs; no pytest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from pytest_llmopt._version import __version__
from pytest_llmopt.core import errors, progress
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.core.wire import WireError
from pytest_llmopt.core.written import kind_at
from pytest_llmopt.runtime.worker.channel import Channel, ChannelClosedError
from pytest_llmopt.runtime.worker.counter import Counter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.core.loading import LoadPolicy


def main(numbers: Sequence[str]) -> int:
    """Serve until the other end closes.

    Args:
        numbers: of three file descriptors: of the messages, of one that is open for as long as the parent lives, and of
            the counter of tokens.
    """
    messages, alive, counter = (int(number) for number in numbers)
    _end_with_parent(alive)
    tokens = Counter.at(counter)
    os.close(counter)
    channel = Channel(socket.socket(fileno=messages))
    os.set_inheritable(messages, False)  # noqa: FBT003 - the library's own signature
    with contextlib.suppress(ChannelClosedError):
        channel.send(("hello", __version__, ".".join(map(str, sys.version_info[:3]))))
        with progress.heard(tokens.set):
            _serve(channel)
    return 0


def _serve(channel: Channel) -> None:
    server = _Server()
    while not server.closed:
        try:
            reply = server.reply(*channel.receive())
            if reply is not None:
                channel.send(reply)
        except ChannelClosedError:
            return
        except WireError as error:
            channel.send(("error", "WorkerError", f"the answer cannot be sent: {error}", "", ""))
        except Exception as error:  # noqa: BLE001 - it is what the other side asked for
            channel.send(_told(error))


def _told(error: Exception) -> tuple[str, ...]:
    """An error of ours by the type that the other side knows, any other by its own name and with where it came from."""
    for kind in type(error).__mro__:
        if getattr(errors, kind.__name__, None) is kind:
            return "error", kind.__name__, str(error), str(getattr(error, "name", "") or ""), ""
    return "error", type(error).__name__, str(error), "", traceback.format_exc()


class _Server:
    """The engines of a process, and what it says to each message."""

    def __init__(self) -> None:
        self._engines: dict[int, Engine] = {}
        self.closed = False

    def reply(self, kind: str, *given: Any) -> tuple[Any, ...] | None:
        """What to send back; None for what needs no answer."""
        if kind == "path":
            sys.path += [folder for folder in given[0] if folder not in sys.path]
            return None
        if kind == "end":
            self.closed = True
            while self._engines:
                self._engines.popitem()[1].close()
            return None
        number, *given_to_it = given
        if kind == "open":
            return self._open(number, *given_to_it)
        if kind == "close":
            self._engines.pop(number).close()
            return ("closed",)
        return "answer", self._engines[number].ask(*given_to_it)

    def _open(self, number: int, variant: Variant, policy: LoadPolicy, home: dict[str, str] | None) -> tuple[Any, ...]:
        engine = _opened(variant, policy, home)
        names = tuple(sorted(own.__name__ for own in engine.answers))
        # The other side has the variant, and might not find the classes of its optimizations again.
        info = dataclasses.replace(engine.info, variant=Variant(engine.info.variant.model))
        self._engines[number] = engine
        return "opened", info, names


def _opened(variant: Variant, policy: LoadPolicy, home: dict[str, str] | None) -> Engine:
    """The engine of a variant, by the name of its kind or from where that was defined."""
    kind = Registry("engines", "engine").load(variant.engine) if home is None else kind_at(variant.engine, home)
    opened: Engine = kind.open(variant, policy)
    return opened


def _end_with_parent(alive: int) -> None:
    """End when the parent does. The guardian of `process.py` does so whatever runs here; this needs no shell.

    Not by Linux's PR_SET_PDEATHSIG, which is about the thread that started this process, and leaves its children.
    """

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(alive, 1)  # gives nothing once the other end is closed
        with contextlib.suppress(OSError):
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, name="llmopt-parent", daemon=True).start()
