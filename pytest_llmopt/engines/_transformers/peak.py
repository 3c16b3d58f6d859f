"""The most memory that loading took at any moment, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

PROCESS = Path("/proc/self")
RESET_PEAK = "5"
"""What resets the largest resident set, proc_pid_clear_refs(5)."""


class PeakMemory:
    """Inside it, memory is watched; `bytes` is then the most that was taken beyond what was held before.

    On a CUDA device that of torch's allocator, elsewhere the resident set of the process, pages of mapped files
    included. None where the system does not tell, as outside of Linux.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device if device.startswith("cuda") else None
        self._before: int | None = None
        self.bytes: int | None = None

    def __enter__(self) -> Self:
        self._before = self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            self.bytes = max(0, self._most() - self._before)

    def _start(self) -> int | None:
        if self._cuda is not None:
            cuda = _cuda()
            cuda.reset_peak_memory_stats(self._cuda)
            return int(cuda.memory_allocated(self._cuda))
        try:
            (PROCESS / "clear_refs").write_text(RESET_PEAK, encoding="ascii")
            return _resident("VmRSS")
        except (OSError, KeyError):
            return None

    def _most(self) -> int:
        return int(_cuda().max_memory_allocated(self._cuda)) if self._cuda is not None else _resident("VmHWM")


def _resident(name: str) -> int:
    """A figure of the process's memory, in bytes."""
    lines = (PROCESS / "status").read_text(encoding="ascii", errors="replace").splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return int(values[name].split()[0]) * 1024


def _cuda() -> Any:
    import torch

    return torch.cuda
