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


def shown(value: object) -> str:
    """A value on one line, shortened in its middle: no message repeats a number of 190 digits. Never raises."""
    try:
        text = _REPR.repr(value)
    except Exception as error:  # noqa: BLE001 - what cannot be shown is still to be refused with words
        # A whole number may be too long to be written.
        size = value.bit_length() if isinstance(value, int) else 0
        about = f"of {size} bits" if size else f"whose repr raises {type(error).__name__}"
        text = f"<{type(value).__name__} {about}>"
    text = printable(" ".join(text.split()))
    return text if len(text) <= _REPR.maxother else f"{text[: _REPR.maxother - 20]}...{text[-15:]}"


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 70
_REPR.maxlong = 40
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = _REPR.maxset = 4
