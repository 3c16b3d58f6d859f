"""Prompt files: whatever is in them, the message has the file, the line and what to write instead."""

import json

import pytest

from pytest_llmopt.core.errors import PromptError
from pytest_llmopt.core.prompts import PromptSet

FINE = b'{"text": "fine"}\n'
LINES = {
    "half a surrogate": (rb'{"text": "\ud800abc"}', ["surrogate", "character 0"]),
    "surrogate in an id": (rb'{"id": "\ud800", "text": "a"}', ["its id", "not empty"]),
    "id null": (b'{"id": null, "text": "a"}', ["'id'", "None"]),
    "id truth": (b'{"id": true, "text": "a"}', ["'id'", "True"]),
    "id list": (b'{"id": [1], "text": "a"}', ["'id'", "[1]"]),
    "id float": (b'{"id": 1.5, "text": "a"}', ["'id'", "1.5"]),
    "id empty": (b'{"id": "", "text": "a"}', ["'id'", "''"]),
    "id of an escape": (rb'{"id": "\u001b[31m", "text": "a"}', ["its id", "control character"]),
    "kind null": (b'{"kind": null, "text": "a"}', ["its kind=None"]),
    "kind dictionary": (b'{"kind": {}, "text": "a"}', ["its kind={}"]),
    "text null": (b'{"text": null}', ["'text'", "None"]),
    "text number": (b'{"text": 5}', ["'text'", "5"]),
    "text empty": (b'{"text": ""}', ["'text'", "not an empty one"]),
    "text list": (b'{"text": ["a"]}', ["'text'", "['a']"]),
    "ids of truth": (b'{"token_ids": [true]}', ["token_ids", "whole number from 0"]),
    "ids of floats": (b'{"token_ids": [1.5]}', ["token_ids", "whole number from 0"]),
    "ids of NaN": (b'{"token_ids": [NaN]}', ["token_ids", "whole number from 0"]),
    "ids below": (b'{"token_ids": [-1]}', ["token_ids", "whole number from 0"]),
    "ids in lists": (b'{"token_ids": [[1]]}', ["token_ids", "whole number from 0"]),
    "ids of null": (b'{"token_ids": [null]}', ["token_ids", "whole number from 0"]),
    "id without end": (b'{"token_ids": [' + b"9" * 190 + b"]}", ["token_ids", "..."]),
    "id of thousands of digits": (b'{"token_ids": [' + b"9" * 5000 + b"]}", ["thousands of digits"]),
    "no ids": (b'{"token_ids": []}', ["'token_ids'", "non-empty"]),
    "ids as text": (b'{"token_ids": "12"}', ["'token_ids'", "'12'"]),
    "both": (b'{"text": "a", "token_ids": [1]}', ["either 'text' or 'token_ids'"]),
    "neither": (b'{"id": "a"}', ["either 'text' or 'token_ids'"]),
    "other keys": (b'{"text": "a", "txt": "b"}', ["unknown keys 'txt'", "known: id, kind"]),
    "the same key": (b'{"text": "a", "text": "b"}', ["the key 'text' twice"]),
    "the same id": (b'{"id": "001", "text": "b"}', ["the id '001' of line 1", "distinct"]),
    "comma in the object": (b'{"text": "a",}', ["is not JSON"]),
    "comma after the object": (b'{"text": "a"},', ["is not JSON", "no comma between lines"]),
    "an array": (b'[{"text": "a"}]', ["JSON array", "one object a line"]),
    "the bracket of an array": (b"[", ["is not JSON", "one object a line"]),
    "half an object": (b"{", ["is not JSON"]),
    "a number": (b"5", ["must be an object", "5"]),
    "plain text": (b"Once upon a time", ["is not JSON"]),
    "single quotes": (b"{'text': 'a'}", ["is not JSON"]),
    "brackets without end": (b"[" * 100_000, ["thousands of brackets"]),
    "NUL byte": (b'{"text": "a\0b"}', ["is not JSON", "NUL"]),
    "Latin-1": ('{"text": "é"}'.encode("latin-1"), ["is not UTF-8", "byte 10"]),
}


@pytest.mark.parametrize("case", LINES)
def test_a_bad_line_is_named_with_its_file(refusal, tmp_path, case):
    line, words = LINES[case]
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(FINE + line + b"\n")
    refusal(lambda: PromptSet.load(path), [f"{path}:2 ", *words], PromptError)


FILES = {
    "nothing": (b"", ["is empty", "one JSON object a line"]),
    "blank lines": (b"\n \n\t\n", ["is empty"]),
    "UTF-16": ('{"text": "a"}'.encode("utf-16"), [":1 is not UTF-8", "UTF-16", "Save it as UTF-8"]),
    "UTF-16 without a mark": ('{"text": "a"}'.encode("utf-16-le"), [":1 is not JSON", "UTF-16"]),
    "UTF-32": ('{"text": "a"}'.encode("utf-32"), [":1 is not UTF-8", "UTF-32"]),
    "an array over lines": (b'[\n{"text": "a"},\n{"text": "b"}\n]\n', [":1 is not JSON", "one object a line"]),
    "a model": (b"\x80\x02}q\x00.", [":1 is not UTF-8"]),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_is_named(refusal, tmp_path, case):
    content, words = FILES[case]
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    refusal(lambda: PromptSet.load(path), [str(path), *words], PromptError)


def test_a_file_that_is_none_is_named(refusal, tmp_path):
    refusal(lambda: PromptSet.load(tmp_path), ["it is a folder", "JSON Lines file"], PromptError)
    refusal(lambda: PromptSet.load(tmp_path / "none"), ["none", "No such file"], PromptError)
    refusal(lambda: PromptSet.load(tmp_path / "a\0b"), ["null byte"], PromptError)
    refusal(lambda: PromptSet.load(tmp_path / ("x" * 5000)), ["too long", "..."], PromptError)


def test_what_is_meant_is_taken(tmp_path):
    path = tmp_path / "prompts.jsonl"
    lines = [
        {"text": "a"},
        {"id": 7, "text": "b\u2028c"},
        {"id": "x", "token_ids": [1], "kind": "code"},
        {"text": "\0"},
    ]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\n".join(map(json.dumps, lines)).encode())
    assert [prompt.id for prompt in PromptSet.load(path)] == ["001", "7", "x", "007"]


THROUGH_PYTEST = {
    "half a surrogate": (rb'{"text": "\ud800"}', ["prompts.jsonl:1", "surrogate"]),
    "an array": (b'[{"text": "a"}]', ["prompts.jsonl:1", "one object a line"]),
    "id null": (b'{"id": null, "text": "a"}', ["prompts.jsonl:1", "'id'"]),
    "not JSON": (b"{", ["prompts.jsonl:1 is not JSON"]),
    "empty": (b"", ["is empty"]),
    "other keys": (b'{"txt": "a"}', ["either 'text' or 'token_ids'"]),
}


@pytest.mark.parametrize("case", THROUGH_PYTEST)
def test_a_test_that_asks_for_prompts_ends_in_an_error_with_the_line(run_bad, project, case):
    content, words = THROUGH_PYTEST[case]
    project.path.joinpath("prompts.jsonl").write_bytes(content)
    text = run_bad(words, source="def test_it(prompts): pass")
    assert "1 error" in text
