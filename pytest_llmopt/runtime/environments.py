"""Environments for engines whose libraries do not go with those of the tests, made once, by the digest of their pins.

A file of `pytest_llmopt/environments/` pins each. What is made of it lies in the user's cache folder, so that a second
clone or a CI job with that folder finds it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import LlmoptError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER_S = 60.0
LACKS = """
import importlib.metadata, json, sys
def kept(pin):
    try:
        from packaging.requirements import Requirement
        wanted = Requirement(pin)
        return importlib.metadata.version(wanted.name) in wanted.specifier
    except ImportError:
        return False
print(json.dumps([pin for pin in sys.argv[1:] if not kept(pin)]))
"""
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
    """A line for each environment: where it is with what is in it, and the command that gets what it lacks."""
    lines = []
    for name in known():
        if not is_made(name):
            what = f"not made yet: llmopt env create {name}"
        elif (missing := lacks(name)) is None:
            what = f"{interpreter_of(name)} does not run: remove {folder_of(name)}, then llmopt env create {name}"
        elif missing:
            command = f"{interpreter_of(name)} -m pip install {shlex.join(missing)}"
            what = f"{interpreter_of(name)} lacks {', '.join(missing)}: {command}"
        else:
            what = interpreter_of(name)
        lines.append(f"{name}: {', '.join(_pinned(name))}; {what}")
    return lines


def lacks(name: str) -> list[str] | None:
    """The pins of an environment that it does not keep; None where its interpreter does not run."""
    asked = [interpreter_of(name), "-c", LACKS, *_pinned(name)]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=ANSWER_S, check=True)  # noqa: S603
        found: list[str] = json.loads(told.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return found


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
