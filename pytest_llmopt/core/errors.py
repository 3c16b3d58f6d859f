"""Errors that a user can act on: each says what was wrong, what was received, what is allowed."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from pytest_llmopt.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable


LONGEST_NAME = 80
"""Characters of an unknown name that are repeated."""


class LlmoptError(Exception):
    """Anything this package refuses to do, with the reason and the way out; safe to print."""

    def __init__(self, message: str = "") -> None:
        """Keep the message without anything that a terminal would obey."""
        super().__init__(printable(message))


class UnknownNameError(LlmoptError):
    """A name that nothing is registered under."""

    def __init__(self, kind: str, value: str, known: Iterable[str]) -> None:
        """Compose the message from the kind of thing, the name received and the names that exist."""
        names, value = sorted(known), value if len(value) <= LONGEST_NAME else f"{value[:LONGEST_NAME]}..."
        near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        super().__init__(f"unknown {kind} {value!r}{hint} Known: {', '.join(names) or 'none'}.")


class OptionError(LlmoptError):
    """An option whose name or value an optimization, check or setting does not take."""


class CombinationError(LlmoptError):
    """Optimizations, or an optimization and an engine, that cannot work together."""


class ModelError(LlmoptError):
    """A model that cannot be found or loaded; carries the library's own words."""


class PromptError(LlmoptError):
    """A prompt file or prompt set that cannot be used."""


class RequestError(LlmoptError):
    """A generate or score request that the engine cannot serve, such as one longer than its cache."""


class AnswerError(LlmoptError):
    """An answer that does not belong to its request: a fault of the engine, so that its test ends in ERROR."""


class NoRoomError(RequestError):
    """A request that is longer than what the engine has room for."""


class PositionMismatchError(LlmoptError):
    """The two sides of a comparison scored different tokens."""


class UnsoundReferenceError(LlmoptError):
    """A reference that nothing can be judged by: it changed, is not finite, or contradicts itself.

    Never the candidate's fault: a test that meets it ends in ERROR, not in FAIL.
    """


class TestTimeoutError(LlmoptError):
    """A test that took longer than `--llmopt-timeout`; carries the stack that it was seen in."""

    __test__ = False


class LlmoptWarning(UserWarning):
    """Something that lets a test pass without what its author may have meant; its text says what to do."""


class StaleCacheWarning(LlmoptWarning):
    """A file or folder of the cache that does not hold, or cannot take, what it should; names it. It is made again."""


class EmptySampleError(LlmoptError):
    """A statistic over nothing: missing is never zero."""


class RequirementMissingError(LlmoptError):
    """Something that the machine or the environment does not have. Skips, unless it is required."""

    def __init__(self, name: str, reason: str) -> None:
        """Keep the requirement's name beside the reason, so that `--llmopt-require` can match it."""
        super().__init__(reason)
        self.name = name


class NothingToChangeError(RequirementMissingError):
    """What a model should be changed into is what it is."""


class NotAnsweredError(RequirementMissingError):
    """A request that an engine does not know: what needs it cannot be judged on that engine."""


class WorkerError(LlmoptError):
    """A process with an engine that ended, hung or sent what is no answer; says how, and what it was doing."""


class VerdictError(AssertionError):
    """A check that did not pass; its text is the diagnosis."""
