"""What every table of bad input asks: the words that a person needs, and nothing raw."""

import pytest

RAW = (
    "INTERNALERROR",
    "Traceback (most recent call last)",
    "IndexError",
    "KeyError",
    "ZeroDivisionError",
    "AttributeError",
    "UnboundLocalError",
    "RecursionError",
    "OverflowError",
    "AssertionError: assert",
    "is an empty sequence",
    "is empty\n",
    "index out of range",
)
"""What never reaches a user, whatever was given."""
LONGEST_NUMBER = 40
"""Digits of one number in a message."""

NEVER = 'raise SystemError("must not run")'
TEST = """
from pytest_llmopt import llmopt

{markers}
def test_it(candidate, reference, prompts):
    {body}
"""


def assert_clear(text, words, allowed=()):
    """Every word is in the text, nothing raw is, and no number goes on for a line."""
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not in:\n{text}"
    found = [raw for raw in RAW if raw in text and raw not in allowed]
    assert not found, f"{found} in:\n{text}"
    digits = max((len(part) for part in "".join(c if c.isdigit() else " " for c in text).split()), default=0)
    assert digits <= LONGEST_NUMBER, f"a number of {digits} digits in:\n{text}"


@pytest.fixture(scope="session")
def clear():
    """`clear(text, words)` asserts that a message says what it must and nothing raw."""
    return assert_clear


@pytest.fixture
def refusal():
    """`refusal(call, words)`: the call raises an error of ours, clearly; gives its text."""
    from pytest_llmopt.core.errors import LlmoptError

    def check(call, words, kind=LlmoptError):
        with pytest.raises(kind) as caught:
            call()
        text = str(caught.value)
        assert_clear(text, words)
        assert len(text) < 2_000
        return text

    return check


@pytest.fixture
def run_bad(project):
    """`run_bad(words, *options, markers=, body=)` runs one test through pytest and asserts that it is refused clearly.

    The short tracebacks leave room for the sources of the user's own test only where an error was raised there.
    """

    def run(words, *options, markers="", body=NEVER, source=None, ret=None, allowed=()):
        project.makepyfile(TEST.format(markers=markers, body=body) if source is None else source)
        result = project.runpytest_inprocess("--tb=short", *options)
        text = "\n".join(result.outlines + result.errlines)
        assert result.ret != 0, text
        assert ret is None or result.ret == ret, text
        assert "E   SystemError" not in text, text
        assert_clear(text, words, allowed)
        return text

    return run
