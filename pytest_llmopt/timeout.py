"""A test that hangs ends with the stack that it hung in, and so does its record.

First the test is interrupted as by an exception, which ends what runs in Python. What runs in a library's own code does
not hear of that: after a while the whole process is ended, and its last words are kept.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_llmopt.core.errors import TestTimeoutError
from pytest_llmopt.names import is_ours

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager
    from types import FrameType

LEAST_GRACE = 10.0
"""Seconds between the exception and the end of the process, at least."""
GRACE = 0.1
"""Of the limit."""
SHOWN = 12
"""Frames of a stack in a message, the innermost."""


@dataclass
class Deadline:
    """When a test has to be done, over all its phases."""

    limit_s: float
    at: float

    @classmethod
    def of(cls, limit_s: float) -> Deadline:
        """So many seconds from now."""
        return cls(limit_s, time.monotonic() + limit_s)

    @property
    def grace_s(self) -> float:
        """Between the exception and the end of the process; what a teardown gets at least."""
        return max(LEAST_GRACE, GRACE * self.limit_s)

    @contextmanager
    def kept(self, give_up: Callable[[str], None], *, at_least_s: float = 0.001) -> Iterator[None]:
        """Around a phase of a test: raises inside of it when time is over.

        Args:
            give_up: ends the process; called from another thread where the phase does not end by the exception. It gets
                what the main thread was last seen in.
            at_least_s: what the phase may take, also where nothing is left.

        Raises:
            TestTimeoutError: time is over; holds the stack.
        """
        main = threading.main_thread()
        remaining = max(at_least_s, self.at - time.monotonic())

        def end() -> None:
            give_up(self._words(sys._current_frames()[main.ident or 0]))  # noqa: SLF001 - the one way to another's stack

        watchdog = threading.Timer(remaining + self.grace_s, end)
        watchdog.daemon = True
        watchdog.start()
        own = threading.current_thread() is main and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        if own:
            signal.signal(signal.SIGALRM, self._interrupt)
            signal.setitimer(signal.ITIMER_REAL, remaining)
        try:
            yield
        finally:
            watchdog.cancel()
            # Another plugin may have set an alarm of its own meanwhile.
            if own and signal.getsignal(signal.SIGALRM) == self._interrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _interrupt(self, _number: int, frame: FrameType | None) -> None:
        raise TestTimeoutError(self._words(frame))

    def _words(self, frame: FrameType | None) -> str:
        stack = traceback.extract_stack(frame)[-SHOWN:]
        place = f"{stack[-1].filename}:{stack[-1].lineno} in {stack[-1].name}" if stack else "an unknown place"
        head = (
            f"still running after {self.limit_s:g} s (--llmopt-timeout), at {place}. See below what it waits for, or "
            "give it longer: --llmopt-timeout SECONDS, 0 for no limit"
        )
        return head + "\n" + "".join(traceback.format_list(stack)).rstrip()


DEADLINE = pytest.StashKey[Deadline]()


class Clock:
    """Gives every test of ours so many seconds from the beginning of its set-up to the end of its teardown."""

    def __init__(self, limit_s: float, give_up: Callable[[pytest.Item, str], None]) -> None:
        """Take the limit, and what ends the process where a test does not end by an exception."""
        self._limit_s = limit_s
        self._give_up = give_up

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """Start the time of a test: a run of it anew has time of its own."""
        if is_ours(item):
            item.stash[DEADLINE] = Deadline.of(self._limit_s)
        with self._within(item):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """End a test whose time is over."""
        with self._within(item):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        """End a test whose time is over."""
        with self._within(item, is_last=True):
            return (yield)

    def _within(self, item: pytest.Item, *, is_last: bool = False) -> AbstractContextManager[None]:
        deadline = item.stash.get(DEADLINE, None)
        if deadline is None:
            return nullcontext()
        # What a test that ran out of time leaves behind still has to be cleared away.
        least = deadline.grace_s if is_last else 0.001
        return deadline.kept(lambda stack: self._give_up(item, stack), at_least_s=least)
