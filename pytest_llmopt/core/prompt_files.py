"""Prompt files: JSON Lines, read strictly, each complaint with the file and the line."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import PromptError
from pytest_llmopt.core.prompt import Prompt
from pytest_llmopt.core.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

KEYS = ("id", "kind", "text", "token_ids")
LONGEST_PATH = 1024
"""Characters of a path that is told as it is."""
OTHER_ENCODINGS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class _LineError(Exception):
    """What is wrong with a line."""


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a file, each line an object with `text` or `token_ids`, and optionally `id` and `kind`.

    Raises:
        PromptError: the file cannot be read, or a line is not such an object; names the line.
    """
    prompts: list[Prompt] = []
    lines: dict[str, int] = {}
    for number, line in _lines(path):
        try:
            prompt = _from_line(number, line)
            _refuse_twice(prompt.id, lines)
        except (_LineError, PromptError) as error:
            msg = f"{path}:{number} {error}"
            raise PromptError(msg) from None
        lines[prompt.id] = number
        prompts.append(prompt)
    if not prompts:
        msg = f"the prompt set {path} is empty; write one JSON object a line, such as {{'text': 'Once upon'}}"
        raise PromptError(msg)
    return tuple(prompts)


def _refuse_twice(name: str, lines: Mapping[str, int]) -> None:
    if name in lines:
        msg = f"has the id {shown(name)} of line {lines[name]}; ids must be distinct"
        raise _LineError(msg)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        what = "it is a folder" if isinstance(error, IsADirectoryError) else getattr(error, "strerror", None) or error
        name = str(path) if len(str(path)) <= LONGEST_PATH and str(path).isprintable() else shown(str(path))
        msg = f"cannot read prompts of {name}: {what}. Give a JSON Lines file, one object a line"
        raise PromptError(msg) from None
    if content.startswith(OTHER_ENCODINGS):
        msg = f"{path}:1 is not UTF-8: it begins as a file in UTF-16 or UTF-32 does. Save it as UTF-8"
        raise PromptError(msg)
    content = content.removeprefix(codecs.BOM_UTF8)
    # Not splitlines: JSON allows U+2028 in a text.
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            msg = f"{path}:{number} is not UTF-8: {error.reason} at byte {error.start} of the line. Save it as UTF-8"
            raise PromptError(msg) from None
        if text.strip():
            yield number, text


def _from_line(number: int, line: str) -> Prompt:
    content = _parsed(line)
    if not isinstance(content, dict) or ("text" in content) == ("token_ids" in content):
        msg = f"must be an object with either 'text' or 'token_ids', got {shown(content)}{_advice(line)}"
        raise _LineError(msg)
    unknown = sorted(content.keys() - set(KEYS))
    if unknown:
        msg = f"has unknown keys {', '.join(map(shown, unknown))}; known: {', '.join(KEYS)}"
        raise _LineError(msg)
    name = content.get("id", f"{number:03d}")
    if isinstance(name, bool) or not isinstance(name, (str, int)) or name == "":
        msg = f"must have a text or a whole number in 'id', or no 'id' at all, got {shown(name)}"
        raise _LineError(msg)
    text, token_ids = content.get("text"), content.get("token_ids")
    if "text" in content and (not isinstance(text, str) or not text):
        msg = f"must have a text in 'text', and not an empty one, got {shown(text)}"
        raise _LineError(msg)
    if "token_ids" in content and (not isinstance(token_ids, list) or not token_ids):
        msg = f"must have a non-empty list of whole numbers in 'token_ids', got {shown(token_ids)}"
        raise _LineError(msg)
    return Prompt(str(name), text or "", tuple(token_ids or ()), content.get("kind", ""))


def _parsed(line: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        msg = f"is not JSON: {error}{_advice(line)}"
    except (RecursionError, ValueError) as error:
        reason = "brackets in brackets" if isinstance(error, RecursionError) else "digits of one number"
        msg = f"is not JSON that can be read: it holds thousands of {reason}"
    raise _LineError(msg)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"has the key {shown(twice)} twice"
        raise _LineError(msg)
    return content


def _advice(line: str) -> str:
    """What was likely meant."""
    text = line.strip()
    if text.startswith("["):
        return ". It begins as a JSON array does: write one object a line, with no brackets around them (JSON Lines)"
    if text.endswith(","):
        return ". Write no comma between lines (JSON Lines)"
    if "\0" in text:
        return ". It holds NUL bytes: save it as UTF-8, not as UTF-16"
    return ""
