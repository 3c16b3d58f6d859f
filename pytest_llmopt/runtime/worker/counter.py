"""A number in memory that a worker and its parent share: how far a request is, also when the worker is dead.

Not a message: one for each step of a decode took half a millisecond where both cores were busy, and this takes a
fiftieth of that.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass

SIZE = 8


@dataclass(frozen=True)
class Counter:
    """One end; both see the same number."""

    memory: mmap.mmap

    @classmethod
    def at(cls, file: int) -> Counter:
        """The number that a file descriptor of `new_file` holds."""
        return cls(mmap.mmap(file, SIZE))

    @property
    def value(self) -> int:
        """The number now."""
        return int.from_bytes(self.memory[:SIZE], "little")

    def set(self, number: int) -> None:
        """Let it be another."""
        self.memory[:SIZE] = max(0, int(number)).to_bytes(SIZE, "little")


def new_file() -> int:
    """A file descriptor with room for a counter at 0; it has no name, and whoever asked for it closes it."""
    if hasattr(os, "memfd_create"):  # in memory: no full disk can make writing to it a bus error
        file = os.memfd_create("llmopt-counter")
    else:
        with tempfile.TemporaryFile() as stream:
            file = os.dup(stream.fileno())
    os.ftruncate(file, SIZE)
    return file
