"""An engine that does, when it is asked to save a checkpoint, what the name of the folder says."""

import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from pytest_llmopt.core import errors, progress, wire
from pytest_llmopt.core.engine import ModelInfo
from pytest_llmopt.core.requests import Generate, RunProjection, SaveCheckpoint
from pytest_llmopt.core.sources import NotHereError

WORDS = "words of its own"
FRAMES = {
    "a number": 3,
    "nothing": (),
    "another kind": ("opened", 1),
    "too much": ("answer", 1, 2),
    "half an error": ("error", "ModelError"),
}


def send(value):
    """A well-formed message of a wrong shape, on whatever socket there is."""
    for number in range(3, 30):
        try:
            socket.socket(fileno=os.dup(number)).sendall(wire.pack(value))
        except OSError:
            continue
    time.sleep(5)


def stop_soon():
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGSTOP)).start()


def leave_a_child_with_the_output():
    subprocess.Popen(["sleep", "60"])  # noqa: S607
    os._exit(6)


def hold_the_interpreter():
    """In C code, with the lock that every thread of Python needs."""
    progress.report(1)
    ctypes.PyDLL(None).sleep(60)


def raised(name):
    if name == "NotHereError":
        raise NotHereError(name, WORDS)
    kind = getattr(errors, name)
    if issubclass(kind, errors.RequirementMissingError):
        raise kind(*("draft", WORDS))
    raise kind(*(("thing", "a", ["b"]) if kind is errors.UnknownNameError else (WORDS,)))


ACTS = {
    "signal 37": lambda: os.kill(os.getpid(), 37),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "stop soon": stop_soon,
    "leave a child": leave_a_child_with_the_output,
    "hold the interpreter": hold_the_interpreter,
}


class Odd:
    """It has a child of its own, as engines with a core of their own have."""

    answers = frozenset({Generate, SaveCheckpoint, RunProjection})

    def __init__(self, variant):
        self.info = ModelInfo(variant, 5, "float32")
        self.child = subprocess.Popen(["sleep", "60"])  # noqa: S607

    @staticmethod
    def open(variant, policy):  # noqa: ARG004
        return Odd(variant)

    @staticmethod
    def tokenizer(variant, policy):
        raise NotImplementedError

    def ask(self, request):
        what = getattr(request, "folder", "")
        if what in FRAMES:
            send(FRAMES[what])
        elif what in ACTS:
            ACTS[what]()
        elif what == "where":
            return str(Path.cwd())
        elif what == "not plain":
            return object()
        elif what:
            raised(what)
        return None

    def close(self):
        pass
