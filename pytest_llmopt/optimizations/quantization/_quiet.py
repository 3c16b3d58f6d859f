"""Libraries that quantize print tables and bars of their own: kept, and quoted where they fail."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from pytest_llmopt.core.errors import LlmoptError, ModelError
from pytest_llmopt.core.quoting import advice
from pytest_llmopt.core.quoting import said as said_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECK = "check that the plain model loads, and the options of the method"
LAST_LINES = 30
"""Of what a library printed before it failed."""


@contextmanager
def quietly(what: str) -> Iterator[None]:
    """Keep what a library prints, from C++ too, and show our own bar instead.

    Raises:
        ModelError: the library failed; carries its message and what it printed last.
    """
    with _progress(what), tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        try:
            with warnings.catch_warnings(), _into(said):
                warnings.simplefilter("ignore")
                yield
        except LlmoptError:
            raise
        except Exception as error:
            said.seek(0)
            last = "\n".join(line.rstrip() for line in said.read().splitlines()[-LAST_LINES:] if line.strip())
            msg = (
                f"{what} failed: {said_of(error)}; {advice(error, CHECK)}\nWhat the library printed last:\n"
                f"{last or '(nothing)'}"
            )
            raise ModelError(msg) from error


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Random numbers from a seed inside, and those of the session untouched afterwards."""
    import numpy as np
    import torch

    before = random.getstate()
    state = np.random.get_state()  # noqa: NPY002 - libraries draw from the global generator
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(state)  # noqa: NPY002


@contextmanager
def elsewhere() -> Iterator[None]:
    """A working folder that goes away, for libraries that leave logs where they are called."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield


@contextmanager
def _into(file: TextIO) -> Iterator[None]:
    """Standard output and error of Python and of the process, into a file."""
    saved = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            yield
    finally:
        file.flush()
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)


@contextmanager
def _progress(what: str) -> Iterator[None]:
    """A bar on the terminal, also while pytest captures the output; none where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    try:
        terminal = open("/dev/tty", "w", encoding="utf-8") if sys.platform != "win32" else None  # noqa: PTH123, SIM115
    except OSError:
        terminal = None
    if terminal is None:
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with terminal, Progress(*columns, console=Console(file=terminal), transient=True) as progress:
        progress.add_task(what, total=None)
        yield
