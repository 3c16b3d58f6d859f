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
PACKAGE = Path(__file__).parents[2] / "__init__.py"
KEPT_LINES, KEPT_WIDTH = 12, 300
"""Of a worker's output, at the end of a message."""
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
    """A child that serves an engine."""

    def __init__(self, python: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it.

        Args:
            python: the interpreter.
            environment: variables beside those of this process.

        Raises:
            WorkerError: the interpreter cannot be started.
        """
        ours, theirs = socket.socketpair()
        read, self._alive = os.pipe()
        variables = {**os.environ, **(environment or {}), "PYTHONUNBUFFERED": "1"}
        if python != sys.executable:
            variables.pop("PYTHONPATH", None)  # it is of this interpreter
        command = [python, "-c", START, str(PACKAGE), str(theirs.fileno()), str(read)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter that the user named
                command,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(), read),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            os.close(self._alive)
            msg = f"the interpreter {python} cannot be started: {error.strerror}; give the path of a python"
            raise WorkerError(msg) from None
        finally:
            theirs.close()
            os.close(read)
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
            name = signal.Signals(-code).name
            meaning = SIGNALS.get(name)
            return f"was ended by {name}" + (f" ({meaning})" if meaning else "")
        return f"ended with exit code {code}"

    def kill(self) -> None:
        """End it and whatever it started."""
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self._release()

    def close(self) -> None:
        """Let it end by itself; end it where it does not."""
        with contextlib.suppress(ChannelClosedError):
            self.channel.send(("close",))
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self.kill()

    def _release(self) -> None:
        self.channel.close()
        alive, self._alive = self._alive, -1
        if alive >= 0:
            os.close(alive)


def _keep_last(stream: IO[bytes] | None, lines: deque[str]) -> None:
    if stream is None:
        return
    with stream:
        while line := stream.readline(KEPT_WIDTH):
            if text := line.decode(errors="replace").strip():
                lines.append(text)
