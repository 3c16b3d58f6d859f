"""Environments for engines whose libraries do not go with those of the tests, made once, by the digest of their pins.

A file of `pytest_llmopt/environments/` pins each. What is made of it lies in the user's cache folder, so that a second
clone or a CI job with that folder finds it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import LlmoptError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

PINS = Path(__file__).parent.parent / "environments"


class EnvironmentNotMadeError(LlmoptError):
    """An environment that cannot be made, or that is not there yet."""


def known() -> tuple[str, ...]:
    """The names of the environments that can be made."""
    return tuple(sorted(file.stem for file in PINS.glob("*.txt")))


def pins_of(name: str) -> Path:
    """The file that pins an environment.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in known():
        kind = "environment"
        raise UnknownNameError(kind, name, known())
    return PINS / f"{name}.txt"


def folder_of(name: str) -> Path:
    """Where an environment is, or will be: by its pins and this version of Python."""
    pins = pins_of(name).read_bytes()
    digest = hashlib.sha256(pins + repr(sys.version_info[:2]).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "pytest-llmopt" / "environments" / f"{name}-{digest}"


def interpreter_of(name: str) -> str:
    """The interpreter of an environment.

    Raises:
        UnknownNameError: there is none of that name.
    """
    return str(folder_of(name) / "bin" / "python")


def is_made(name: str) -> bool:
    """Whether an environment is there."""
    return Path(interpreter_of(name)).is_file()


def create(name: str, say: Callable[[str], None]) -> Path:
    """Make an environment, unless it is there; its folder.

    Made beside its place and moved there at the end, so that nothing half made is ever found.

    Args:
        name: of the environment.
        say: told what is being done.

    Raises:
        UnknownNameError: there is none of that name.
        EnvironmentNotMadeError: it cannot be made; carries what pip said.
    """
    folder = folder_of(name)
    if is_made(name):
        say(f"{name} is there: {folder}")
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        say(f"{name}: a new environment of Python {sys.version_info[0]}.{sys.version_info[1]}")
        _run([sys.executable, "-m", "venv", "--copies", str(made)])
        python = str(made / "bin" / "python")
        say(f"{name}: installing {', '.join(_pinned(name))}; this may take minutes")
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins_of(name))])
        try:
            made.rename(folder)
        except OSError:
            if not is_made(name):  # else another process was quicker
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    say(f"{name} is made: {folder}")
    return folder


def listed() -> list[str]:
    """A line for each environment: where it is with what is in it, or the command that makes it."""
    lines = []
    for name in known():
        pinned = ", ".join(_pinned(name))
        if is_made(name):
            lines.append(f"{name}: {pinned}; {interpreter_of(name)}")
        else:
            lines.append(f"{name}: {pinned}; not made yet: llmopt env create {name}")
    return lines


def _pinned(name: str) -> list[str]:
    lines = pins_of(name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith(("#", "-"))]


def _run(command: list[str]) -> None:
    """Run a command to its end.

    Raises:
        EnvironmentNotMadeError: it failed; carries the last lines that it printed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        words = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        msg = f"{' '.join(command[:4])} ... failed with exit code {done.returncode}:\n{words}"
        raise EnvironmentNotMadeError(msg)
