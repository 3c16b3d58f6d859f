"""What comes from anywhere is made fit for a terminal and for a person."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmopt.core.errors import LlmoptError, UnknownNameError
from pytest_llmopt.core.text import brief, encodable, printable, shown


@given(st.text(alphabet=st.characters(codec=None)))
def test_nothing_that_a_terminal_obeys_is_left_and_all_else_is(text):
    shown = printable(text)
    assert not any(ord(sign) < 32 and sign not in "\t\n" for sign in shown)
    assert not any(0x7F <= ord(sign) < 0xA0 or 0xD800 <= ord(sign) < 0xE000 for sign in shown)
    shown.encode("utf-8")
    assert printable(shown) == shown


def test_an_escape_is_written_as_python_writes_it():
    assert printable("\x1b[31m red \u202e\ud800 \ttab\n") == "\\x1b[31m red \\u202e\\ud800 \ttab\n"


def test_every_error_of_ours_is_safe_to_print():
    assert str(LlmoptError("no \x1b]0;title\x07")) == "no \\x1b]0;title\\x07"
    assert "\x1b" not in str(UnknownNameError("marker", "\x1b[2J", ["\x1b[1m"]))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", None, "no such encoding"])
def test_text_is_written_in_what_the_terminal_has(encoding):
    text = encodable("a · b → c ‖ d … 日本", encoding)
    if encoding in {"utf-8", None}:
        assert text == "a · b → c ‖ d … 日本"
    else:
        assert text == r"a | b -> c || d ... \u65e5\u672c"


def test_text_that_can_be_written_stays_as_it_is():
    assert encodable("a · b", "latin-1") == "a · b"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.5, ".1%", "50.0%"),
        (1.25, ".4f", "1.2500"),
        (10.0**190, ".4f", "1e+190"),
        (-(10.0**190), ".1%", "-1e+190"),
        (math.inf, ".4f", "inf"),
        (math.nan, ".0f", "nan"),
    ],
)
def test_no_number_is_a_line_of_digits(value, digits, text):
    assert brief(value, digits) == text


class Hostile:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize("value", [10**190, "x" * 500, list(range(10**5)), Hostile(), "\x1b[2J"])
def test_a_value_in_a_message_is_short_and_safe_whatever_it_is(value):
    text = shown(value)
    assert len(text) < 100
    assert "\x1b" not in text
