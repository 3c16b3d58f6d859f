"""Messages over a socket between two processes.

A socket pair and not execnet, which pytest-xdist has: execnet tells a death by an `EOFError` up to half a second later
and without the exit code, and a verdict has to name the signal. Five ways were compared on a CPU; all are far quicker
than any answer of an engine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_llmopt.core.wire import HEAD, pieces, sizes, unpack

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

SOON_S = 0.001
"""The least that is waited: 0 would mean not to wait at all, which is another error."""


class ChannelClosedError(Exception):
    """The other end is gone."""


@dataclass(frozen=True)
class Channel:
    """One end."""

    socket: socket.socket

    def send(self, value: object, until: float | None = None) -> None:
        """Send a value.

        Args:
            value: plain data.
            until: of the monotonic clock; None waits for ever.

        Raises:
            WireError: it is no plain data; nothing was sent.
            ChannelClosedError: the other end is gone.
            TimeoutError: the other end did not take it in time, as one that was stopped does not.
        """
        self.send_packed(pieces(value), until)

    def send_packed(self, parts: Iterable[bytes | memoryview], until: float | None = None) -> None:
        """Send what `wire.pieces` gave.

        Raises:
            ChannelClosedError: the other end is gone.
            TimeoutError: the other end did not take it in time.
        """
        try:
            for part in parts:
                self._wait_until(until)
                self.socket.sendall(part)
        except TimeoutError:
            raise
        except OSError as error:
            raise ChannelClosedError from error

    def receive(self, until: float | None = None) -> Any:
        """The next value.

        Args:
            until: of the monotonic clock; None waits for ever.

        Raises:
            ChannelClosedError: the other end is gone.
            TimeoutError: nothing came in time.
            WireError: what came is no message.
        """
        content, arrays = sizes(self._read(HEAD.size, until))
        return unpack(self._read(content, until), self._read(arrays, until))

    def _read(self, count: int, until: float | None) -> memoryview:
        room, place = np.empty(count, np.uint8).data, 0  # takes memory only as it is filled
        while place < count:
            try:
                self._wait_until(until)
                came = self.socket.recv_into(room[place:])
            except TimeoutError:
                raise
            except OSError:
                came = 0
            if not came:
                raise ChannelClosedError
            place += came
        return room

    def _wait_until(self, until: float | None) -> None:
        """Let the socket wait that long. Not `select`, which takes no file beyond the first 1024 of a process."""
        self.socket.settimeout(None if until is None else max(SOON_S, until - time.monotonic()))

    def close(self) -> None:
        """Close this end."""
        self.socket.close()
