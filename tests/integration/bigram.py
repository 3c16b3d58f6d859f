"""An engine of a few lines of NumPy, and everything that can go wrong with one: no library takes long to import."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pytest_llmopt import Generation, Promise, TopLogprobs
from pytest_llmopt.core import progress
from pytest_llmopt.core.answers import DecodeStep, Timing
from pytest_llmopt.core.engine import ModelInfo
from pytest_llmopt.core.requests import ForceDecode, Generate, Score

VOCAB = 26


class Bigram:
    """The next token depends on the last one alone."""

    answers = frozenset({Generate, Score, ForceDecode})

    def __init__(self, variant):
        rng = np.random.default_rng(7)
        logits = rng.normal(size=(VOCAB, VOCAB)) * 2
        self.table = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        self.info = ModelInfo(variant, VOCAB, "float64", frozenset(), 4096)
        self.fault = None
        for item in variant.optimizations:
            item.options.for_bigram(self)

    @staticmethod
    def open(variant, policy):  # noqa: ARG004
        return Bigram(variant)

    @staticmethod
    def tokenizer(variant, policy):  # noqa: ARG004
        return Letters()

    def ask(self, request):
        if self.fault is not None and isinstance(request, Generate):
            wrong = self.fault()
            if wrong is not None:
                return wrong
        if isinstance(request, Generate):
            return tuple(self._decode(item, request.sampling) for item in request.prompts)
        if isinstance(request, Score):
            return tuple(self._read(item.prompt_ids[-1:], item.token_ids) for item in request.continuations)
        if request.report_prompt:
            given = [(item.prompt_ids[:1], item.prompt_ids[1:] + item.token_ids) for item in request.continuations]
        else:
            given = [(item.prompt_ids, item.token_ids) for item in request.continuations]
        return tuple(self._generation(prompt, self._read(prompt[-1:], tokens)) for prompt, tokens in given)

    def close(self):
        pass

    def _decode(self, prompt, sampling):
        tokens = [prompt[-1]]
        while len(tokens) <= sampling.max_new_tokens:
            tokens.append(int(self.table[tokens[-1]].argmax()))
            progress.report(len(tokens) - 1)
            if tokens[-1] in sampling.stop_token_ids:
                break
        return self._generation(prompt, self._read(prompt[-1:], tuple(tokens[1:])))

    def _read(self, last, tokens):
        return TopLogprobs.from_logprobs(np.array(tokens), self.table[list((*last, *tokens)[:-1])])

    def _generation(self, prompt, logprobs):
        return Generation(prompt, logprobs, "length", (DecodeStep(1),) * len(logprobs), Timing(0.1, 0.1, len(logprobs)))


class Letters:
    """A letter is a token."""

    def encode(self, text):
        return tuple(ord(letter) % VOCAB for letter in text) or (0,)

    def decode(self, token_ids):
        return "".join(chr(token + ord("a")) for token in token_ids)


def raises():
    message = "a kernel says no"
    raise RuntimeError(message)


def dies_later():
    threading.Timer(0.2, lambda: os._exit(9)).start()


def hangs():
    time.sleep(600)


def prints():
    for _ in range(2000):
        sys.stdout.write("x" * 4000 + "\n")
    sys.stdout.flush()
    os.abort()


def sends_garbage():
    for number in range(3, 30):
        try:
            other = socket.socket(fileno=os.dup(number))
            other.send(b"HTTP/1.1 200 OK\r\n\r\n" * 40)
        except OSError:
            continue


def closes_its_socket():
    for number in range(3, 30):
        try:
            socket.socket(fileno=os.dup(number)).shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


def counts_then_dies():
    progress.report(17)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def runs_out_of_memory():
    resource.setrlimit(resource.RLIMIT_AS, (2**32, resource.getrlimit(resource.RLIMIT_AS)[1]))
    np.ones(2**34)


def leaves_a_child():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    os._exit(5)


def interrupts():
    raise KeyboardInterrupt


class UnspeakableError(Exception):
    def __str__(self):
        return self.message  # there is none


def raises_what_has_no_words():
    raise UnspeakableError


FAULTS = {
    "raises": (raises, "a kernel says no"),
    "sys_exit": (lambda: sys.exit(3), "ended with exit code 3 while answering Generate"),
    "os_exit": (lambda: os._exit(4), "ended with exit code 4 while answering Generate"),
    "abort": (os.abort, "was ended by SIGABRT (aborted) while answering Generate"),
    "segfault": (lambda: ctypes.string_at(0), "was ended by SIGSEGV (a segmentation fault)"),
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "was ended by SIGKILL (killed, perhaps because memory"),
    "hangs": (hangs, "did not answer within"),
    "prints_megabytes": (prints, "was ended by SIGABRT"),
    "sends_garbage": (sends_garbage, "sent what is no answer"),
    "closes_its_socket": (closes_its_socket, "ended with exit code 0 while answering Generate"),
    "counts_then_dies": (counts_then_dies, "was ended by SIGTERM while answering Generate, after 17 tokens"),
    "stops": (lambda: os.kill(os.getpid(), signal.SIGSTOP), "did not answer within"),
    "runs_out_of_memory": (runs_out_of_memory, "Unable to allocate 128. GiB"),
    "leaves_a_child": (leaves_a_child, "ended with exit code 5 while answering Generate"),
    "interrupts": (interrupts, "was ended by SIGINT while answering Generate"),
    "raises_what_has_no_words": (raises_what_has_no_words, "UnspeakableError"),
    "answers_too_little": (lambda: (), "4 were asked for and 0 came"),
    "answers_nonsense": (lambda: "<html>502</html>", "it is no tuple of Generation"),
}
"""What happens while it decodes, and what has to be said of it."""
LATER = "dies_later"
"""Happens by itself, a moment after it was loaded."""


@dataclass(frozen=True)
class Fault:
    """A candidate that goes wrong in one way."""

    promise: ClassVar[Promise] = Promise.EQUIVALENT
    requirements: ClassVar[tuple] = ()
    conflicts: ClassVar[dict] = {}

    what: str = ""
    at_load: bool = False

    def for_bigram(self, engine):
        act = dies_later if self.what == LATER else FAULTS[self.what][0] if self.what else None
        if act is not None and (self.at_load or self.what == LATER):
            act()
        else:
            engine.fault = act


def pytest_llmopt_engines(config):
    return {"bigram": Bigram}


def pytest_llmopt_optimizations(config):
    return {"planted.fault": Fault}
