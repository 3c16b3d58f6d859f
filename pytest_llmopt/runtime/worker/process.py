"""The process of a worker: started with its own group and its own output, and ended as a group."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_llmopt.core.errors import WorkerError
from pytest_llmopt.runtime.worker.channel import Channel, ChannelClosedError
from pytest_llmopt.runtime.worker.counter import Counter, new_file

if TYPE_CHECKING:
    from collections.abc import Mapping

START = """
import importlib.util, os, sys
file = sys.argv[1]
spec = importlib.util.spec_from_file_location("pytest_llmopt", file, submodule_search_locations=[os.path.dirname(file)])
sys.modules["pytest_llmopt"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from pytest_llmopt.runtime.worker.main import main
sys.exit(main(sys.argv[2:]))
"""
"""This very package and nothing that lies beside it, which belongs to this interpreter and not to that one."""
GUARDIAN = ("/bin/sh", "-c", 'read -r _; kill -s KILL -- "-$0"')
"""Ends the group of a worker once the pipe that it reads is closed, which any end of this process does.

A process of its own, as a worker may be busy in C code or stopped, and may have started others. It is a child of this
one, which ends it.
"""
PACKAGE = Path(__file__).parents[2] / "__init__.py"
KEPT_LINES, KEPT_WIDTH = 12, 300
"""Of a worker's output, at the end of a message."""
FOREIGN = ("PYTHONPATH", "PYTHONHOME")
"""Variables that belong to this interpreter and mislead another one."""
BUFFER = 2**22
"""Bytes of a message that its sender need not wait for the other end to take."""
PATIENCE_S = 5.0
"""For a process that has closed its socket to end, and for a request to end by itself."""
SIGNALS = {
    "SIGKILL": "killed, perhaps because memory ran out",
    "SIGSEGV": "a segmentation fault",
    "SIGABRT": "aborted",
    "SIGBUS": "a bus error",
    "SIGILL": "an instruction that this processor does not have",
    "SIGFPE": "an arithmetic exception",
}


class WorkerProcess:
    """A child that serves engines."""

    def __init__(self, python: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it.

        Args:
            python: the interpreter.
            environment: variables beside those of this process.

        Raises:
            WorkerError: the interpreter cannot be started.
        """
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)  # the system may allow less
        read, self._alive = os.pipe()
        counter = new_file()
        self.tokens = Counter.at(counter)
        variables = {**os.environ, **(environment or {}), "PYTHONUNBUFFERED": "1"}
        if python != sys.executable:
            variables = {name: value for name, value in variables.items() if name not in FOREIGN}
        # -P: the folder that pytest runs in is nothing to import from: it may be the checkout of the very library.
        command = [python, "-P", "-c", START, str(PACKAGE), str(theirs.fileno()), str(read), str(counter)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter that the user named
                command,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(), read, counter),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            os.close(self._alive)
            msg = f"the interpreter {python} cannot be started: {error.strerror}; give the path of a python"
            raise WorkerError(msg) from None
        else:
            self._guardian = _guard(self._process.pid, read)
        finally:
            theirs.close()
            os.close(read)
            os.close(counter)
        self.channel = Channel(ours)
        self.pid = self._process.pid
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        # Whatever it prints is read at once and forgotten but for its end: no library can fill a disk or a pipe.
        self._reader = threading.Thread(target=_keep_last, args=(self._process.stdout, self._lines), daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def last_lines(self) -> str:
        """The end of what it printed, a line each."""
        self._reader.join(timeout=0.0 if self.alive else PATIENCE_S)
        return "\n".join(f"  {line}" for line in self._lines)

    def how_it_ended(self) -> str:
        """In words: its signal or its exit code. It is given a moment, and ended where it does not."""
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return "closed its connection and went on; it was ended"
        if code < 0:
            name = _name(-code)
            meaning = SIGNALS.get(name)
            return f"was ended by {name}" + (f" ({meaning})" if meaning else "")
        return f"ended with exit code {code}"

    def kill(self) -> None:
        """End it and whatever it started; once, since its number may be another's later."""
        if self._alive < 0:
            return
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        if self._guardian is not None:
            self._guardian.kill()
            self._guardian.wait()
        self._release()

    def close(self) -> None:
        """Let it end by itself; end it where it does not."""
        with contextlib.suppress(ChannelClosedError):
            self.channel.send(("end",))
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self.kill()

    def _release(self) -> None:
        self.channel.close()
        alive, self._alive = self._alive, -1
        if alive >= 0:
            os.close(alive)


def _guard(pid: int, read: int) -> subprocess.Popen[bytes] | None:
    """The guardian of a worker; none where there is no shell."""
    try:
        return subprocess.Popen(  # noqa: S603 - our own command
            [*GUARDIAN, str(pid)],
            stdin=read,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it
        )
    except OSError:
        return None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


def _keep_last(stream: IO[bytes] | None, lines: deque[str]) -> None:
    if stream is None:
        return
    with stream:
        while line := stream.readline(KEPT_WIDTH):
            if text := line.decode(errors="replace").strip():
                lines.append(text)
