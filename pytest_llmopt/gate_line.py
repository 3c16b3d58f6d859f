"""What stands on the line of `llmopt gate` behind its own options: models, and options of pytest with their values."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from _pytest.config import _prepareconfig

from pytest_llmopt.core.loading import fixtures_folder
from pytest_llmopt.options import ALL, OPTIONS, absolute

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*[\w-]")
"""`org/name`, as a model hub has it."""
CONFIGS = ("config.json", "adapter_config.json")
"""One of them is in every model folder that Transformers loads."""

RUN_PYTEST = "llmopt gate runs the suites that ship with it: for tests of your own, run pytest"


@dataclass(frozen=True)
class GateLine:
    """The words of a line, apart."""

    models: tuple[str, ...]
    """Those that stand alone."""
    options: tuple[str, ...]
    """Those for pytest, as they were given."""
    names_models: bool
    """Whether the options name models as well."""


class _Word(str):
    """A word of the line that is still known by itself when pytest has sorted the line."""

    __slots__ = ()


def read(words: Sequence[str], settings: Sequence[str]) -> GateLine:
    """Tell the models from the options: pytest, with the plugins that it loads, says which options take a value.

    Args:
        words: the line behind the gate's own options.
        settings: the options that every run of the gate gives to pytest.

    Raises:
        pytest.UsageError: pytest does not understand the line, or a word that stands alone is no model.
    """
    marked = [_Word(word) for word in words]
    # The models are not where tests are, so no conftest is to be looked for there.
    try:
        config = _prepareconfig([*settings, "--noconftest", *marked])
    except ImportError as error:  # a plugin that is not there
        raise pytest.UsageError(str(error)) from None
    try:
        alone = list(getattr(config.option, "file_or_dir", ()))  # none where pytest only shows its help
        named = config.getoption(OPTIONS["model"].flag) or []
        started = config.invocation_params.dir
    finally:
        config._ensure_unconfigure()  # noqa: SLF001 - what `pytest.main` does at the end
    for name in [*alone, *(name.strip() for text in named for name in text.split(",") if name.strip())]:
        _check(name, started)
    identities = set(map(id, alone))
    options = (str(word) for word in marked if id(word) not in identities and word != "--")
    return GateLine(tuple(map(str, alone)), tuple(options), bool(named))


def zoo_names() -> list[str]:
    """Every model of the zoo, and the name of all of them."""
    folder = fixtures_folder() / "models"
    return [ALL, *sorted(path.name for path in folder.iterdir() if path.is_dir())]


def _check(name: str, started: Path) -> None:
    """Refuse what cannot be a model.

    Raises:
        pytest.UsageError: says why, and what to write instead.
    """
    path, zoo = absolute(name, started), zoo_names()
    if name and path.is_dir():
        if not any((path / config).is_file() for config in CONFIGS):
            msg = f"{name!r} is a folder without {' or '.join(CONFIGS)}, so it is no model; {RUN_PYTEST}"
            raise pytest.UsageError(msg)
        return
    if (name and path.exists()) or "::" in name or name.endswith(".py"):
        msg = f"{name!r} is no model; {RUN_PYTEST}"
        raise pytest.UsageError(msg)
    if name in zoo or HUB_ID.fullmatch(name):
        return
    near = difflib.get_close_matches(name, zoo, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    msg = (
        f"{name!r} is no model: there is no such folder, and it is neither in the zoo nor a hub id such as org/name"
        f"{hint} The zoo has {', '.join(zoo)}."
    )
    raise pytest.UsageError(msg)
