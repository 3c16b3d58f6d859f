"""Text that may come from anywhere, made fit for a terminal and for a person."""

from __future__ import annotations

import math
import re
import reprlib

UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline, what turns the direction of writing, line separators, lone surrogates."""
PLAIN_BELOW = 10**9
"""A larger number is written with an exponent."""
PLAIN = str.maketrans({"·": "|", "…": "...", "‖": "||", "▸": ">", "→": "->"})
"""What this package itself writes outside of ASCII, for a terminal that has nothing else."""


def printable(text: object) -> str:
    r"""The text with what a terminal would obey, or cannot show, written as an escape: ESC becomes `\x1b`."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def encodable(text: str, encoding: str | None) -> str:
    """The text in characters that an encoding has; where it has not, plainer ones, and escapes for the rest.

    Args:
        text: what to write.
        encoding: of the terminal or file; None where it does not say.
    """
    if encoding is None:
        return text
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        plain = text.translate(PLAIN)
        return plain.encode("ascii", "backslashreplace").decode("ascii")
    return text


def brief(value: float, digits: str) -> str:
    """A number in a format such as `.4f` or `.1%`; with an exponent where that would take a line of digits."""
    return f"{value:.3g}" if abs(value) >= PLAIN_BELOW or not math.isfinite(value) else f"{value:{digits}}"


def shortened(value: object, characters: int = 60) -> str:
    """A value as a message shows it: its repr, the middle left out where it is long. Never raises."""
    shorten = reprlib.Repr()
    shorten.maxstring = shorten.maxother = shorten.maxlong = characters
    try:
        return printable(shorten.repr(value))
    except Exception as error:  # noqa: BLE001 - a value that cannot be shown is still to be refused with words
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
