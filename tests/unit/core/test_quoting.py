"""What libraries say comes out on one line, without names of exceptions and without what a terminal acts on."""

import pytest

from pytest_llmopt.core.errors import LlmoptError, ModelError, OptionError
from pytest_llmopt.core.quoting import NAME, WORDS, explained, quoted, said


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("two\n  lines. "), "two lines"),
        (KeyError("siluu"), "there is no 'siluu'"),
        (KeyError("a whole sentence: {'factor'}"), "a whole sentence: {'factor'}"),
        (IndexError("list index out of range"), "something in it is empty or too short"),
        (RuntimeError("in it:\nTypeError: expected int"), "in it: expected int"),
        (RuntimeError("\x1b[31mred"), r"\x1b[31mred"),
        (NotImplementedError(), "it stopped without a word (NotImplementedError)"),
    ],
)
def test_the_words_of_an_exception_are_quoted_on_one_line(error, expected):
    assert said(error) == expected


def test_long_words_are_cut():
    assert said(ValueError("x" * 1000)) == f"{'x' * WORDS}..."


@pytest.mark.parametrize(
    ("name", "expected"),
    [("my model", "'my model'"), ("a\x1bb", r"'a\x1bb'"), ("it's", '"it\'s"'), ("a\nb", r"'a\nb'"), (5, "'5'")],
)
def test_a_name_is_quoted_without_what_a_terminal_acts_on(name, expected):
    assert quoted(name) == expected


def test_a_long_name_keeps_both_ends():
    text = quoted("a" * 500 + "z" * 500)
    assert (text[:3], text[-3:]) == ("'aa", "zz'")
    assert len(text) == NAME + 3


def test_what_a_library_raises_becomes_a_sentence_with_the_next_step():
    with pytest.raises(ModelError) as raised, explained("the weights of 'x' cannot be read", "copy them"):
        raise KeyError("a")  # noqa: EM101
    assert str(raised.value) == "the weights of 'x' cannot be read: there is no 'a'; copy them"
    assert isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError("no room"), "a smaller dtype"),
        (ImportError("pip install it"), "install what is named there"),
        (ValueError("set trust_remote_code=True"), "--llmopt-trust-remote-code"),
    ],
)
def test_some_kinds_of_errors_have_a_better_next_step(error, expected):
    with pytest.raises(LlmoptError, match=expected), explained("it failed", "the usual"):
        raise error


def test_an_error_of_ours_passes_through():
    with pytest.raises(OptionError, match=r"^no$"), explained("it failed", "the usual"):
        raise OptionError("no")  # noqa: EM101
