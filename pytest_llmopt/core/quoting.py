"""What libraries say and users write, quoted in one line of a message."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import LlmoptError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = 240
"""Characters of a library's words in a message."""
KINDS = re.compile(r"\b[A-Z]\w*(?:Error|Exception): ")
"""What libraries write in front of the words of another error."""
NAME = 160
"""Characters of a name in a message."""


def quoted(name: object) -> str:
    """A name as a message quotes it: on one line, without what a terminal would act on, and not too long."""
    text = name if isinstance(name, str) else repr(name)
    text = f"'{text}'" if text.isprintable() and "'" not in text else repr(text)
    return text if len(text) <= NAME else f"{text[: NAME // 2]}...{text[-NAME // 2 :]}"


def said(error: BaseException) -> str:
    """What an exception says, on one line: its own words, and what they are about where it has next to none."""
    words = " ".join(str(error).split())
    words = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in words)
    words = KINDS.sub("", words).rstrip(". ")
    if isinstance(error, LookupError) and type(error).__module__ == "builtins":
        # The text of these is only the key that was looked for.
        key = str(error.args[0]) if error.args else ""
        if isinstance(error, KeyError):
            words = " ".join(key.split()) if " " in key else f"there is no {words}"
        else:
            words = "something in it is empty or too short"
    words = words or f"it stopped without a word ({type(error).__name__})"
    return words if len(words) <= WORDS else f"{words[:WORDS].rstrip()}..."


@contextmanager
def explained(what: str, next_step: str) -> Iterator[None]:
    """Inside it, whatever a library raises becomes one sentence.

    Args:
        what: what cannot be done, with the name of the file or folder.
        next_step: what to do about it.

    Raises:
        ModelError: the library raised; carries its words. Our own errors pass through as they are.
    """
    try:
        yield
    except LlmoptError:
        raise
    except Exception as error:
        msg = f"{what}: {said(error)}; {advice(error, next_step)}"
        raise ModelError(msg) from error


def advice(error: BaseException, usual: str) -> str:
    """What to do about an error of a library: the usual, unless it is of a kind for which there is better."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "use a smaller dtype or model, or a device with more memory"
    if "trust_remote_code" in str(error):
        return "read the code that comes with it, then allow it with --llmopt-trust-remote-code"
    if isinstance(error, ImportError):
        return "install what is named there"
    return usual
