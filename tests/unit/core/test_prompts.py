"""A prompt set is not empty, its ids are distinct, and bad input is named with its place."""

import json
import re

import numpy as np
import pytest

from pytest_llmopt.core.errors import PromptError
from pytest_llmopt.core.loading import fixtures_folder
from pytest_llmopt.core.prompt import Prompt
from pytest_llmopt.core.prompts import PromptSet, cluster_keys


class Letters:
    """As much of an engine as encoding a prompt needs: one token a letter."""

    class variant:  # noqa: N801 - an attribute of the engine
        model = "letters"

    vocab_size = 256

    @staticmethod
    def encode(text):
        return tuple(map(ord, text))


@pytest.fixture
def write(tmp_path):
    """A function that writes a prompt file and gives its path."""

    def write(content):
        path = tmp_path / "prompts.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_texts_token_ids_and_prompts_become_prompts_with_stable_ids():
    given = ["text", [1, 2], (3,), Prompt("mine", text="x")]
    expected = (
        Prompt("000", text="text"),
        Prompt("001", token_ids=(1, 2)),
        Prompt("002", token_ids=(3,)),
        Prompt("mine", text="x"),
    )
    assert PromptSet.of(given).prompts == expected
    assert PromptSet.of(tuple(given)) == PromptSet.of(given)


def test_a_prompt_set_is_taken_as_it_is():
    prompts = PromptSet.of(["a", "b"])
    assert PromptSet.of(prompts) is prompts
    assert len(prompts) == 2
    assert prompts[1].text == "b"
    assert [prompt.text for prompt in prompts] == ["a", "b"]


@pytest.mark.parametrize(
    "given", ["a text", None, 3, {"a": 1}, {"a"}, iter(["a"])], ids=lambda item: type(item).__name__
)
def test_what_is_no_list_is_refused_with_its_type(given):
    with pytest.raises(PromptError, match=f"must be a list .*got {type(given).__name__}"):
        PromptSet.of(given)


@pytest.mark.parametrize("item", [None, 3, [], "", {"text": "a"}, b"a"], ids=repr)
def test_an_item_that_is_no_prompt_is_refused_with_its_place(item):
    with pytest.raises(PromptError, match=r"prompt 1 must be a text, a list of token ids or a Prompt"):
        PromptSet.of(["fine", item])


@pytest.mark.parametrize("item", [["a"], [1, "a"], [1.5], [[1]], [True], [-1], [2**40], [None]], ids=repr)
def test_token_ids_that_are_none_are_refused_with_their_prompt(item):
    with pytest.raises(PromptError, match=r"prompt '001' cannot be used: its token_ids=.*give a list, each of them a"):
        PromptSet.of(["fine", item])


def test_token_ids_of_numpy_are_token_ids():
    assert PromptSet.of([[np.int64(1), np.int32(2)], np.array([3, 4])])[1].token_ids == (3, 4)


@pytest.mark.parametrize("given", [[], ()])
def test_an_empty_set_is_refused(given):
    with pytest.raises(PromptError, match="empty; give at least one prompt"):
        PromptSet.of(given)


def test_ids_that_occur_twice_are_refused_and_named():
    prompts = [Prompt("b"), Prompt("a"), Prompt("b"), Prompt("a"), Prompt("c")]
    with pytest.raises(PromptError, match=r"more than once: a, b$"):
        PromptSet.of(prompts)


def test_take_gives_the_first_prompts_or_all_there_are():
    prompts = PromptSet.of(["a", "b", "c"])
    assert [prompt.text for prompt in prompts.take(2)] == ["a", "b"]
    assert prompts.take(9) == prompts
    with pytest.raises(PromptError):
        prompts.take(0)


def test_encoding_prefers_the_given_tokens_and_refuses_a_prompt_without_any():
    assert Prompt("x", text="ab").encode(Letters) == (97, 98)
    assert Prompt("x", text="ab", token_ids=(7,)).encode(Letters) == (7,)
    with pytest.raises(PromptError, match="prompt 'x' has no tokens for letters"):
        Prompt("x", text="").encode(Letters)


def test_a_file_holds_one_object_a_line(write):
    path = write('{"text": "a"}\r\n\n{"id": 5, "kind": "code", "token_ids": [1, 2]}\n  \n{"text": "ü\\n"}')
    assert PromptSet.load(path).prompts == (
        Prompt("001", text="a"),
        Prompt("5", token_ids=(1, 2), kind="code"),
        Prompt("005", text="ü\n"),
    )


def test_only_a_newline_ends_a_line(write):
    """JSON allows U+2028, U+2029 and U+0085 inside a text, and other tools write them unescaped."""
    text = "one\u2028two\u2029three\x85"
    path = write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    assert PromptSet.load(path)[0].text == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{text: 1}", "is not JSON"),
        ("[1, 2]", "must be an object with either 'text' or 'token_ids', got [1, 2]"),
        ('"text"', "must be an object"),
        ("null", "must be an object"),
        ("{}", "must be an object"),
        ('{"id": "a"}', "must be an object"),
        ('{"text": "a", "token_ids": [1]}', "must be an object"),
        ('{"text": "a", "txt": 1, "b": 2}', "has unknown keys 'b', 'txt'; known: id, kind, text, token_ids"),
    ],
)
def test_a_bad_line_is_named_with_file_and_line(write, line, message):
    path = write(f'{{"text": "fine"}}\n\n{line}\n')
    with pytest.raises(PromptError, match=re.escape(f"{path}:3 {message}")):
        PromptSet.load(path)


@pytest.mark.parametrize(
    "line",
    [
        '{"text": null}',
        '{"text": 5}',
        '{"token_ids": 5}',
        '{"token_ids": "ab"}',
        '{"token_ids": [1, "a"]}',
        '{"token_ids": [1.5]}',
        '{"token_ids": []}',
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_file_and_line(write, line):
    path = write(f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(PromptError, match=re.escape(f"{path}:2 ")):
        PromptSet.load(path)


@pytest.mark.parametrize("content", ["", "\n  \n"])
def test_an_empty_file_is_refused_with_an_example(write, content):
    path = write(content)
    with pytest.raises(PromptError, match=re.escape(f"{path} is empty; write one JSON object a line")):
        PromptSet.load(path)


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(PromptError, match=re.escape(f"{path}")):
        PromptSet.load(path)


def test_a_file_that_is_not_utf_8_is_named(write):
    path = write(b'{"text": "\xff"}\n')
    with pytest.raises(PromptError, match=re.escape(f"{path}:1 is not UTF-8")):
        PromptSet.load(path)


@pytest.mark.parametrize("name", ["default", "calibration"])
def test_the_shipped_prompt_files_load(name):
    prompts = PromptSet.load(fixtures_folder() / "prompts" / f"{name}.jsonl")
    assert all(prompt.text or prompt.token_ids for prompt in prompts)


def test_texts_with_equal_tokens_are_one_cluster():
    given = PromptSet.of(["ab", [97, 98], "cd", "ab"])
    assert cluster_keys([prompt.encode(Letters) for prompt in given]) == [0, 0, 2, 0]
    assert [prompt.id for prompt in given.distinct(Letters)] == ["000", "002"]
