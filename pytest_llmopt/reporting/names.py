"""Short names that stay apart: of models in a table, of tests with equal rows."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

from pytest_llmopt.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable


def short_models(models: Iterable[str]) -> dict[str, str]:
    """A name for each model: a hub id as it is, a folder by as many of its last parts as tell it from the others."""
    names = list(dict.fromkeys(models))
    short = {name: _last(name, 1) for name in names}
    parts = 2
    while True:
        counts = Counter(short.values())
        double = [name for name in names if counts[short[name]] > 1 and _last(name, parts) != short[name]]
        if not double:
            return {name: printable(value) for name, value in short.items()}
        short |= {name: _last(name, parts) for name in double}
        parts += 1


def apart(nodeids: Iterable[str]) -> dict[str, str]:
    """What tells each of some tests from the others: its node id without the file and path that all share."""
    names = {name: name.split("::") for name in nodeids}
    shared = sum(1 for _ in itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*names.values(), strict=False)))
    return {name: "::".join(parts[shared:]) for name, parts in names.items()}


def _last(model: str, parts: int) -> str:
    """The last parts of a folder; a hub id or a name of the zoo as it is."""
    if not model.startswith(("/", ".", "~")):
        return model
    pieces = [piece for piece in model.split("/") if piece]
    return "/".join(pieces[-parts:]) if len(pieces) >= parts else model.rstrip("/") or model
